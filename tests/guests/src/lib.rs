//! tidegate-guests.
