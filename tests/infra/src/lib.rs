//! What Tidegate is deployed with, as its users' tools see it: the chart as Helm renders it, the recipe of the images
//! as a parser of such recipes reads it.

mod chart;
mod containerfile;
mod document;
mod tool;

pub use chart::{Chart, Rendered};
pub use containerfile::{Containerfile, Stage};
pub use document::{Document, Pods, list};
pub use tool::complaints;
