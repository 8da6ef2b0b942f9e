//! The cloud store on real servers: the contract, and hosts that share it.

#![allow(clippy::unwrap_used)]

mod backup;
mod beside;
mod clocks;
mod contract;
mod declared;
mod faults;
mod hosts;
mod lambda;
mod modules;
mod notices;
mod queues;
mod terraform;
mod units;
