//! Admission: who may run now. Each function has its own bounds; here are those over all of them.

mod gate;

pub use gate::{Gate, NoPlace, Place, Places};
