//! Admission: who may run now. Each function has its own bounds; here are those over all of them, and those in time.

mod backlog;
mod gate;
mod rates;

pub use backlog::{Full, NoRoom, has_room};
pub use gate::{Gate, NoPlace, Place, Places};
pub use rates::{NotBefore, Rates};
