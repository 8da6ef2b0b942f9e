//! How columns become what a model takes, and what it gives becomes columns. Every mistake is told in one go.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use parquet::basic::Repetition;
use parquet::schema::types::{ColumnDescriptor, Type, TypePtr};

use super::config::Columns;
use super::table::{Piece, Table};
use super::values::{Column, Values, raw, sources, target};
use crate::inference::element::Element;
use crate::inference::signature::Signature;
use crate::inference::tensors::{Elements, Port};

/// An input, or an output, and its columns.
#[derive(Debug)]
struct Bound {
    /// Its name in the model.
    name: String,
    /// Where it is among the model's.
    at: usize,
    element: Element,
    columns: Vec<String>,
    /// Whether a row of it is one element and no list.
    flat: bool,
}

/// What a model takes and gives, in columns.
#[derive(Debug)]
pub struct Mapping {
    model: String,
    inputs: Vec<Bound>,
    outputs: Vec<Bound>,
    keep: Vec<String>,
    mistakes: Vec<String>,
}

/// Where the columns of a mapping are in one file.
#[derive(Debug)]
pub struct Layout {
    /// The columns to read, by their places in the file.
    pub columns: Vec<usize>,
    /// Of each input its columns, among those that are read.
    inputs: Vec<Vec<usize>>,
    /// Of the kept ones where they are among those that are read.
    pub kept: Vec<usize>,
    /// The columns of what is written.
    pub fields: Vec<TypePtr>,
}

impl Mapping {
    /// Binds columns to a model, to its outputs only where they are wanted as columns. What is wrong with them is told with the
    /// first file's own mistakes.
    pub fn new(inputs: &Columns, outputs: Option<&Columns>, keep: &[String], signature: &Signature) -> Self {
        let mut mapping = Self {
            model: format!("model `{}` version `{}`", signature.name, signature.version),
            inputs: Vec::new(),
            outputs: Vec::new(),
            keep: keep.to_vec(),
            mistakes: Vec::new(),
        };
        mapping.unknown("inputs", inputs, &signature.inputs);
        for (at, port) in signature.inputs.iter().enumerate() {
            let bound = input(at, port, inputs.get(&port.name));
            mapping.inputs.extend(noted(&mut mapping.mistakes, bound));
        }
        if let Some(outputs) = outputs {
            mapping.bind_outputs(outputs, &signature.outputs);
        }
        mapping.told_apart();
        mapping
    }

    /// Those that are named, or all of them.
    fn bind_outputs(&mut self, named: &Columns, ports: &[Port]) {
        self.unknown("outputs", named, ports);
        let wanted = |port: &Port| named.is_empty() || named.contains_key(&port.name);
        for (at, port) in ports.iter().enumerate().filter(|(_, port)| wanted(port)) {
            let bound = output(at, port, named.get(&port.name));
            self.outputs.extend(noted(&mut self.mistakes, bound));
        }
    }

    fn unknown(&mut self, what: &str, named: &Columns, ports: &[Port]) {
        let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        for name in named.keys().filter(|name| !known.contains(&name.as_str())) {
            let known = known.join("`, `");
            self.mistakes
                .push(format!("`{what}` names `{name}`, allowed are `{known}`"));
        }
    }

    /// Columns that are written have names of their own.
    fn told_apart(&mut self) {
        let mut seen = BTreeSet::new();
        let given = self.outputs.iter().flat_map(|output| &output.columns);
        for name in self.keep.iter().chain(given) {
            if !seen.insert(name) {
                self.mistakes
                    .push(format!("two columns of the output would be `{name}`"));
            }
        }
    }

    /// Finds the columns in a file; or tells all that is wrong with it, and with the mapping.
    pub fn layout(&self, table: &Table) -> Result<Layout, String> {
        let mut finding = Finding {
            names: table.names(),
            table,
            columns: Vec::new(),
            mistakes: self.mistakes.clone(),
        };
        let inputs = self.inputs.iter().map(|input| finding.input(input)).collect();
        let kept: Vec<usize> = self.keep.iter().filter_map(|name| finding.kept(name)).collect();
        let fields = kept.iter().filter_map(|&at| finding.field(at));
        let fields = fields
            .chain(self.outputs.iter().flat_map(Bound::fields))
            .collect();
        if !finding.mistakes.is_empty() {
            let mistakes = finding.mistakes.join("; ");
            return Err(format!("does not fit {}: {mistakes}", self.model));
        }
        Ok(Layout {
            columns: finding.columns,
            inputs,
            kept,
            fields,
        })
    }

    /// The model's inputs of some rows of a piece.
    pub fn inputs(
        &self,
        layout: &Layout,
        piece: &Piece,
        rows: Range<usize>,
    ) -> Result<Vec<Elements>, String> {
        let inputs = self.inputs.iter().zip(&layout.inputs);
        let made = inputs.map(|(input, places)| {
            let columns: Vec<&Column> = places.iter().filter_map(|&at| piece.columns.get(at)).collect();
            for (name, column) in input.columns.iter().zip(&columns) {
                if let Some(row) = column.null(rows.clone()) {
                    let row = piece.first + row as u64;
                    return Err(format!(
                        "has a null in column `{name}`, row {row}; a model takes none"
                    ));
                }
            }
            let raw = raw(&columns, rows.clone(), piece.first, input.element)
                .map_err(|reason| format!("{reason} (input `{}`)", input.name))?;
            let shape = match input.flat {
                true => vec![rows.len() as i64],
                false => vec![rows.len() as i64, columns.len() as i64],
            };
            Ok(Elements { shape, raw })
        });
        made.collect()
    }

    /// The columns of the outputs, without values yet.
    pub fn empty(&self) -> Vec<Column> {
        let columns = self
            .outputs
            .iter()
            .flat_map(|output| output.columns.iter().map(|_| Values::empty(output.element)));
        columns.map(Column::from).collect()
    }

    /// Appends what the model gave for so many rows.
    pub fn collect(&self, given: &[Elements], rows: usize, to: &mut [Column]) -> Result<(), String> {
        let mut to = to.iter_mut();
        for output in &self.outputs {
            let width = output.columns.len();
            let found = given.get(output.at);
            let found = found
                .filter(|found| found.shape.first() == Some(&(rows as i64)) && found.count() == rows * width);
            let Some(found) = found else {
                let shape = given
                    .get(output.at)
                    .map(|given| given.shape.as_slice())
                    .unwrap_or_default();
                let name = &output.name;
                return Err(format!(
                    "output `{name}` has shape {shape:?} for {rows} rows, allowed are {width} for each row"
                ));
            };
            for at in 0..width {
                if let Some(column) = to.next() {
                    column.values.take(output.element, &found.raw, at, width);
                }
            }
        }
        Ok(())
    }
}

/// Notes a mistake, or hands on what is right.
fn noted(mistakes: &mut Vec<String>, bound: Result<Bound, String>) -> Option<Bound> {
    bound.map_err(|mistake| mistakes.push(mistake)).ok()
}

fn input(at: usize, port: &Port, columns: Option<&Vec<String>>) -> Result<Bound, String> {
    let name = &port.name;
    let columns = columns.cloned().unwrap_or_else(|| vec![name.clone()]);
    let count = columns.len() as i64;
    let fits = match *port.shape.as_slice() {
        [rows] => rows < 0 && count == 1,
        [rows, width] => rows < 0 && (width < 0 || width == count),
        _ => false,
    };
    if !fits {
        let shape = port.describe();
        return Err(format!(
            "input `{name}` of shape {shape} cannot be made of {count} column(s), allowed are inputs with a free number \
             of rows, and a column for each element of a row"
        ));
    }
    if sources(port.element).is_empty() {
        return Err(format!(
            "input `{name}` is of `{}`, which no column is",
            port.element.name()
        ));
    }
    Ok(Bound {
        name: name.clone(),
        at,
        element: port.element,
        columns,
        flat: port.shape.len() == 1,
    })
}

fn output(at: usize, port: &Port, columns: Option<&Vec<String>>) -> Result<Bound, String> {
    let (name, shape) = (&port.name, port.describe());
    let width = match *port.shape.as_slice() {
        [] | [_] => Some(1),
        [_, width] => usize::try_from(width).ok(),
        _ => return Err(format!("output `{name}` of shape {shape} is no list of columns")),
    };
    let columns = match (columns, width) {
        (Some(columns), Some(width)) if columns.len() != width => {
            let count = columns.len();
            return Err(format!(
                "output `{name}` of shape {shape} is {width} column(s), `outputs` names {count}"
            ));
        }
        (Some(columns), _) => columns.clone(),
        (None, Some(1)) => vec![name.clone()],
        (None, Some(width)) => (0..width).map(|at| format!("{name}_{at}")).collect(),
        (None, None) => {
            return Err(format!(
                "output `{name}` of shape {shape} does not tell how many columns it is; `outputs` has to name them"
            ));
        }
    };
    if target(port.element).is_none() {
        return Err(format!(
            "output `{name}` is of `{}`, which no column is",
            port.element.name()
        ));
    }
    Ok(Bound {
        name: name.clone(),
        at,
        element: port.element,
        columns,
        flat: port.shape.len() < 2,
    })
}

impl Bound {
    /// The columns that an output is written to.
    fn fields(&self) -> impl Iterator<Item = TypePtr> {
        let kind = target(self.element);
        let field = move |name: &String| {
            let (kind, logical) = kind.clone()?;
            let field = Type::primitive_type_builder(name, kind)
                .with_repetition(Repetition::REQUIRED)
                .with_logical_type(logical);
            field.build().ok().map(Arc::new)
        };
        self.columns.iter().filter_map(field)
    }
}

/// Looks for columns in a file.
struct Finding<'a> {
    names: Vec<String>,
    table: &'a Table,
    columns: Vec<usize>,
    mistakes: Vec<String>,
}

impl Finding<'_> {
    /// The places of an input's columns, among those that are read.
    fn input(&mut self, input: &Bound) -> Vec<usize> {
        let allowed = sources(input.element);
        let mut places = Vec::with_capacity(input.columns.len());
        for name in &input.columns {
            let Some((place, column)) = self.column(name) else {
                continue;
            };
            let (kind, repeated) = (column.physical_type(), column.max_rep_level() > 0);
            if repeated || !allowed.contains(&kind) {
                let found = if repeated {
                    "a list".to_owned()
                } else {
                    format!("{kind:?}")
                };
                let allowed: Vec<String> = allowed.iter().map(|kind| format!("{kind:?}")).collect();
                let (of, element, allowed) = (&input.name, input.element.name(), allowed.join("`, `"));
                self.mistakes.push(format!(
                    "column `{name}` is `{found}`, allowed for input `{of}` (`{element}`) are `{allowed}`"
                ));
                continue;
            }
            places.push(self.read(place));
        }
        places
    }

    /// The place of a column that is kept, among those that are read.
    fn kept(&mut self, name: &str) -> Option<usize> {
        let (place, column) = self.column(name)?;
        if column.max_rep_level() > 0 || column.path().parts().len() > 1 {
            self.mistakes.push(format!(
                "column `{name}` is in a group or a list, allowed to keep are columns of their own"
            ));
            return None;
        }
        Some(self.read(place))
    }

    /// The column's own description, of one that is read.
    fn field(&self, at: usize) -> Option<TypePtr> {
        let column = self.table.columns().get(*self.columns.get(at)?)?;
        Some(column.self_type_ptr())
    }

    fn column(&mut self, name: &str) -> Option<(usize, Arc<ColumnDescriptor>)> {
        let place = self.names.iter().position(|found| found == name);
        let found = place.and_then(|place| Some((place, self.table.columns().get(place)?.clone())));
        if found.is_none() {
            let there = self.names.join("`, `");
            self.mistakes
                .push(format!("column `{name}` is missing, found are `{there}`"));
        }
        found
    }

    fn read(&mut self, place: usize) -> usize {
        let known = self.columns.iter().position(|&column| column == place);
        known.unwrap_or_else(|| {
            self.columns.push(place);
            self.columns.len() - 1
        })
    }
}
