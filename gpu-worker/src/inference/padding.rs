//! Requests of different shapes that are run together: what fills their inputs up to one shape, and how what comes out is cut
//! back to each one's own.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::signature::Signature;
use super::tensors::{Elements, Port};

/// What inputs are filled up with, by their names.
pub type Fill = BTreeMap<String, i64>;

/// How many times as large as another's a dimension of a request may be: to fill up more costs more than a run apart.
const MOST_TIMES: i64 = 4;

/// How the shapes of a model's requests are made one; by default they have to be.
#[derive(Debug, Default)]
pub struct Padding {
    /// Of each input the bytes of the number that fills it up, where it may be filled up.
    fills: Vec<Option<Bytes>>,
    /// Of each output the dimensions that are cut back.
    cuts: Vec<Vec<Cut>>,
}

/// A dimension of an output that is as large as one of an input.
#[derive(Debug)]
struct Cut {
    dimension: usize,
    input: usize,
    of: usize,
}

impl Padding {
    /// Fills the inputs of a model up with these numbers; the error says what of them it does not allow.
    pub fn of(signature: &Signature, fill: &Fill) -> Result<Self, String> {
        if fill.is_empty() {
            return Ok(Self::default());
        }
        let inputs = &signature.inputs;
        if let Some(unknown) = fill
            .keys()
            .find(|name| inputs.iter().all(|port| port.name != **name))
        {
            let names: Vec<&str> = inputs.iter().map(|port| port.name.as_str()).collect();
            return Err(format!(
                "`padding` is of input `{unknown}`, the model's are `{}`",
                names.join("`, `")
            ));
        }
        let number = |port: &Port| {
            let Some(&number) = fill.get(&port.name) else {
                return Ok(None);
            };
            let bytes = port.element.number(number);
            let wrong = || {
                let (name, element) = (&port.name, port.element.name());
                format!("`padding` of input `{name}` is {number}, which is no {element}")
            };
            bytes.map(Some).ok_or_else(wrong)
        };
        let fills = inputs.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        let filled: Vec<(usize, &Port)> = inputs
            .iter()
            .enumerate()
            .filter(|(at, _)| fills[*at].is_some())
            .collect();
        let cuts = signature.outputs.iter().map(|output| cuts(output, &filled));
        let cuts = cuts.collect::<Result<_, _>>()?;
        Ok(Self { fills, cuts })
    }

    /// Whether requests may be run together: their inputs differ in nothing but rows, and sizes that are filled up.
    pub fn alike(&self, one: &[Elements], other: &[Elements]) -> bool {
        let near = |(one, other): (&i64, &i64)| *one.max(other) <= one.min(other) * MOST_TIMES;
        let inputs = one.iter().zip(other).enumerate();
        let mut same = inputs.map(|(at, (one, other))| {
            let (one, other) = (tail(one), tail(other));
            let filled = self.fills.get(at).is_some_and(Option::is_some);
            one == other || (filled && one.len() == other.len() && one.iter().zip(other).all(near))
        });
        one.len() == other.len() && same.all(|same| same)
    }

    /// The inputs of requests that are alike, each filled up to the largest.
    pub fn even(&self, signature: &Signature, requests: &[&[Elements]]) -> Vec<Vec<Elements>> {
        let mut all: Vec<Vec<Elements>> = requests.iter().map(|request| request.to_vec()).collect();
        for (at, (port, fill)) in signature.inputs.iter().zip(&self.fills).enumerate() {
            let Some((fill, size)) = fill.as_ref().zip(port.element.size()) else {
                continue;
            };
            let tails = requests.iter().filter_map(|request| Some(tail(request.get(at)?)));
            let largest = tails.fold(Vec::new(), |largest: Vec<i64>, tail| {
                let known = |dimension| largest.get(dimension).copied().unwrap_or(0);
                tail.iter()
                    .enumerate()
                    .map(|(at, size)| known(at).max(*size))
                    .collect()
            });
            for input in all.iter_mut().filter_map(|request| request.get_mut(at)) {
                *input = resized(input, &largest, size, fill);
            }
        }
        all
    }

    /// The outputs of one of them, as large as its own inputs say.
    pub fn cut(&self, signature: &Signature, outputs: Vec<Elements>, inputs: &[Elements]) -> Vec<Elements> {
        let mut outputs = outputs;
        for ((output, port), cuts) in outputs.iter_mut().zip(&signature.outputs).zip(&self.cuts) {
            let mut own = tail(output).to_vec();
            for cut in cuts {
                let size = inputs.get(cut.input).and_then(|input| input.shape.get(cut.of));
                if let Some((own, size)) = own.get_mut(cut.dimension - 1).zip(size) {
                    *own = *size;
                }
            }
            *output = resized(output, &own, port.element.size().unwrap_or(0), &[]);
        }
        outputs
    }
}

/// The dimensions of an output that are those of inputs which are filled up; the error names one of which that is not known.
fn cuts(output: &Port, filled: &[(usize, &Port)]) -> Result<Vec<Cut>, String> {
    let free = (1..output.shape.len()).filter(|&dimension| output.shape[dimension] < 0);
    free.map(|dimension| {
        let symbol = output.symbols.get(dimension).filter(|symbol| !symbol.is_empty());
        let whose = filled.iter().find_map(|&(input, port)| {
            let of = (1..port.shape.len()).find(|&of| port.symbols.get(of) == symbol && symbol.is_some())?;
            Some(Cut { dimension, input, of })
        });
        let whose = whose.filter(|_| output.element.size().is_some());
        whose.ok_or_else(|| {
            let (name, shape) = (&output.name, output.describe());
            format!("`padding` cannot be cut off output `{name}` of shape {shape}: only numbers are cut, to a named size of an input")
        })
    })
    .collect()
}

fn tail(elements: &Elements) -> &[i64] {
    elements.shape.get(1..).unwrap_or_default()
}

/// A tensor with as many rows and other sizes within each: filled up where they are larger, cut off where they are smaller.
fn resized(elements: &Elements, to: &[i64], size: usize, fill: &[u8]) -> Elements {
    if tail(elements) == to {
        return elements.clone();
    }
    let sizes = |shape: &[i64]| -> Vec<usize> { shape.iter().map(|&size| size.max(0) as usize).collect() };
    let rows = elements.shape.first().copied().unwrap_or(0);
    let shape: Vec<i64> = std::iter::once(rows).chain(to.iter().copied()).collect();
    let mut raw = Vec::with_capacity(sizes(&shape).iter().product::<usize>() * size);
    copy(
        &elements.raw,
        &sizes(&elements.shape),
        &sizes(&shape),
        size,
        fill,
        &mut raw,
    );
    Elements {
        shape,
        raw: raw.into(),
    }
}

/// Appends a tensor of sizes `from` as one of sizes `to`.
fn copy(raw: &[u8], from: &[usize], to: &[usize], size: usize, fill: &[u8], out: &mut Vec<u8>) {
    let (Some((&has, from)), Some((&wants, to))) = (from.split_first(), to.split_first()) else {
        out.extend_from_slice(raw);
        return;
    };
    let each = from.iter().product::<usize>() * size;
    for part in raw.chunks_exact(each.max(1)).take(has.min(wants)) {
        copy(part, from, to, size, fill, out);
    }
    let missing = wants.saturating_sub(has) * to.iter().product::<usize>();
    (0..missing).for_each(|_| out.extend_from_slice(fill));
}

#[cfg(test)]
mod tests {
    use super::super::element::Element;
    use super::*;

    fn port(name: &str, element: Element, symbols: &[&str]) -> Port {
        Port {
            name: name.into(),
            element,
            shape: vec![-1; symbols.len()],
            symbols: symbols.iter().map(|symbol| (*symbol).to_owned()).collect(),
        }
    }

    /// Tokens and a mask in, a score for each row and a label for each token out.
    fn tagger(labels: &str) -> Signature {
        Signature {
            name: "tagger".into(),
            version: "1".into(),
            inputs: vec![
                port("tokens", Element::Uint8, &["N", "L"]),
                port("mask", Element::Uint8, &["N", "L"]),
            ],
            outputs: vec![
                port("score", Element::Uint8, &["N"]),
                port("labels", Element::Uint8, &["N", labels]),
            ],
            properties: Default::default(),
        }
    }

    fn both() -> Fill {
        Fill::from([("tokens".into(), 7), ("mask".into(), 0)])
    }

    fn numbers(shape: &[i64], raw: &[u8]) -> Elements {
        Elements {
            shape: shape.to_vec(),
            raw: Bytes::copy_from_slice(raw),
        }
    }

    #[test]
    fn shorter_rows_are_filled_up_and_what_comes_out_is_cut_back() {
        let tagger = tagger("L");
        let padding = Padding::of(&tagger, &both()).unwrap();
        let short = [numbers(&[2, 1], &[1, 2]), numbers(&[2, 1], &[1, 1])];
        let long = [numbers(&[1, 3], &[3, 4, 5]), numbers(&[1, 3], &[1, 1, 1])];
        assert!(padding.alike(&short, &long) && padding.alike(&long, &short));
        let even = padding.even(&tagger, &[&short, &long]);
        assert_eq!(
            even[0],
            [
                numbers(&[2, 3], &[1, 7, 7, 2, 7, 7]),
                numbers(&[2, 3], &[1, 0, 0, 1, 0, 0])
            ]
        );
        assert_eq!(even[1], long);
        let given = vec![numbers(&[2], &[8, 9]), numbers(&[2, 3], &[1, 2, 3, 4, 5, 6])];
        assert_eq!(
            padding.cut(&tagger, given, &short),
            [numbers(&[2], &[8, 9]), numbers(&[2, 1], &[1, 4])]
        );
    }

    #[test]
    fn what_is_not_filled_up_or_much_larger_is_not_run_together() {
        let one = |length: u8| {
            let raw: Vec<u8> = (0..length).collect();
            let shape = [1, i64::from(length)];
            [numbers(&shape, &raw), numbers(&shape, &raw)]
        };
        let padding = Padding::of(&tagger("L"), &both()).unwrap();
        assert!(padding.alike(&one(4), &one(16)) && !padding.alike(&one(4), &one(17)));
        assert!(!Padding::default().alike(&one(1), &one(2)));
        assert!(Padding::default().alike(&one(2), &one(2)));
    }

    #[test]
    fn a_fill_that_the_model_does_not_allow_is_refused() {
        let refused = |labels, fill: &[(&str, i64)]| {
            let fill = fill.iter().map(|(name, number)| ((*name).to_owned(), *number));
            Padding::of(&tagger(labels), &fill.collect()).unwrap_err()
        };
        let unknown = refused("L", &[("ids", 0)]);
        assert!(
            unknown.contains("input `ids`, the model's are `tokens`, `mask`"),
            "{unknown}"
        );
        let large = refused("L", &[("tokens", 256)]);
        assert!(
            large.contains("input `tokens` is 256, which is no UINT8"),
            "{large}"
        );
        let free = refused("K", &[("tokens", 0)]);
        assert!(free.contains("output `labels` of shape [N, K]"), "{free}");
    }
}
