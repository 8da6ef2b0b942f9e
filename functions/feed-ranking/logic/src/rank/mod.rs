//! Ranking for a request: from a JSON body to tensors, and from scores to a JSON body.
//!
//! - [`Ask`]: a request, checked.
//! - [`BadRequest`]: what is wrong with one, and what is allowed.
//! - [`Inputs`]: the model's tensors.
//! - [`answer`]: the response.

mod ask;
mod inputs;
mod reply;

pub use ask::{Ask, BadRequest, MAX_BODY, MAX_ITEMS};
pub use inputs::Inputs;
pub use reply::{Answer, answer, error_body};
