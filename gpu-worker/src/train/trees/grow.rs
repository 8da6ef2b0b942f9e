//! One tree, grown from the root by the splits that gain most.

use super::bins::{Bins, MOST};
use crate::train::rng::Rng;

/// A node; one without children is a leaf.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Node {
    /// The feature that it asks.
    pub feature: u32,
    /// What is not above this goes left.
    pub threshold: f32,
    /// Where the left child is, and next to it the right one; 0 of a leaf.
    pub left: u32,
    /// What a leaf says.
    pub value: f32,
}

/// A tree; the root is its first node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tree {
    /// The nodes.
    pub nodes: Vec<Node>,
}

impl Tree {
    /// What it says of a row.
    pub fn value(&self, row: &[f32]) -> f32 {
        let mut at = 0;
        while let Some(node) = self.nodes.get(at) {
            if node.left == 0 {
                return node.value;
            }
            let above = row
                .get(node.feature as usize)
                .is_some_and(|value| *value > node.threshold);
            at = node.left as usize + usize::from(above);
        }
        0.0
    }
}

/// How trees are grown.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Splits between the root and a leaf at most.
    pub max_depth: usize,
    /// Rows of a leaf at least.
    pub min_leaf: usize,
    /// Regularisation of leaves.
    pub l2: f64,
    /// How much of a leaf's value counts.
    pub rate: f64,
    /// Features that a split may choose from.
    pub features: usize,
}

/// What a tree is grown on: for each row its gradient and its curvature.
pub struct Slopes<'a> {
    /// First derivatives.
    pub gradient: &'a [f32],
    /// Second derivatives, or weights.
    pub curvature: &'a [f32],
}

/// Sums over rows.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    gradient: f64,
    curvature: f64,
    rows: usize,
}

impl Sums {
    fn add(&mut self, gradient: f32, curvature: f32) {
        self.gradient += f64::from(gradient);
        self.curvature += f64::from(curvature);
        self.rows += 1;
    }

    fn plus(self, other: Self) -> Self {
        Self {
            gradient: self.gradient + other.gradient,
            curvature: self.curvature + other.curvature,
            rows: self.rows + other.rows,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            gradient: self.gradient - other.gradient,
            curvature: self.curvature - other.curvature,
            rows: self.rows - other.rows,
        }
    }

    fn score(self, l2: f64) -> f64 {
        self.gradient * self.gradient / (self.curvature + l2).max(1e-12)
    }
}

/// The best split of a node.
#[derive(Debug, Clone, Copy)]
struct Split {
    feature: usize,
    bin: u8,
    gain: f64,
}

/// A node that may be split, with its rows among all.
struct Open {
    node: usize,
    from: usize,
    to: usize,
    depth: usize,
}

/// Grows a tree on `rows`, which it puts in another order; a row that is there twice counts twice.
pub fn grow(bins: &Bins, rows: &mut [u32], slopes: &Slopes<'_>, rule: &Rule, rng: &mut Rng) -> Tree {
    let mut tree = Tree::default();
    tree.nodes.push(leaf(0.0));
    let mut open = vec![Open {
        node: 0,
        from: 0,
        to: rows.len(),
        depth: 0,
    }];
    while let Some(Open {
        node,
        from,
        to,
        depth,
    }) = open.pop()
    {
        let rows = &mut rows[from..to];
        let mut sums = Sums::default();
        for &row in rows.iter() {
            sums.add(slopes.gradient[row as usize], slopes.curvature[row as usize]);
        }
        let split = match depth < rule.max_depth && rows.len() >= 2 * rule.min_leaf {
            true => best(bins, rows, slopes, sums, rule, rng),
            false => None,
        };
        let Some(split) = split else {
            let value = -sums.gradient / (sums.curvature + rule.l2).max(1e-12) * rule.rate;
            tree.nodes[node] = leaf(value as f32);
            continue;
        };
        let left = tree.nodes.len();
        tree.nodes[node] = Node {
            feature: split.feature as u32,
            threshold: bins.cuts[split.feature][usize::from(split.bin)],
            left: left as u32,
            value: 0.0,
        };
        tree.nodes.extend([leaf(0.0), leaf(0.0)]);
        let middle = from + part(bins.column(split.feature), rows, split.bin);
        let child = |node, from, to| Open {
            node,
            from,
            to,
            depth: depth + 1,
        };
        open.extend([child(left + 1, middle, to), child(left, from, middle)]);
    }
    tree
}

fn leaf(value: f32) -> Node {
    Node {
        feature: 0,
        threshold: 0.0,
        left: 0,
        value,
    }
}

/// Puts the rows that go left before the others, each in the order it had; how many go left.
fn part(column: &[u8], rows: &mut [u32], bin: u8) -> usize {
    let (left, right): (Vec<u32>, Vec<u32>) = rows.iter().partition(|&&row| column[row as usize] <= bin);
    rows[..left.len()].copy_from_slice(&left);
    rows[left.len()..].copy_from_slice(&right);
    left.len()
}

fn best(
    bins: &Bins,
    rows: &[u32],
    slopes: &Slopes<'_>,
    all: Sums,
    rule: &Rule,
    rng: &mut Rng,
) -> Option<Split> {
    let mut features: Vec<usize> = (0..bins.cuts.len()).collect();
    if rule.features < features.len() {
        rng.shuffle(&mut features);
        features.truncate(rule.features);
    }
    let splits = features
        .into_iter()
        .filter_map(|feature| best_of(feature, bins, rows, slopes, all, rule));
    splits.reduce(|one, other| if other.gain > one.gain { other } else { one })
}

/// The best split by one feature, where it gains anything.
fn best_of(
    feature: usize,
    bins: &Bins,
    rows: &[u32],
    slopes: &Slopes<'_>,
    all: Sums,
    rule: &Rule,
) -> Option<Split> {
    let column = bins.column(feature);
    let mut histogram = [Sums::default(); MOST];
    for &row in rows {
        let row = row as usize;
        histogram[usize::from(column[row])].add(slopes.gradient[row], slopes.curvature[row]);
    }
    let (mut left, mut found) = (Sums::default(), None);
    for (bin, sums) in (0..bins.cuts[feature].len()).zip(histogram) {
        left = left.plus(sums);
        let right = all.minus(left);
        if left.rows < rule.min_leaf || right.rows < rule.min_leaf {
            continue;
        }
        let gain = left.score(rule.l2) + right.score(rule.l2) - all.score(rule.l2);
        let better = found.is_none_or(|found: Split| gain > found.gain);
        if gain > 1e-9 && better {
            found = Some(Split {
                feature,
                bin: bin as u8,
                gain,
            });
        }
    }
    found
}
