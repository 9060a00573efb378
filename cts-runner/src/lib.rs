//! Runs the Vulkan CTS natively and on Lockstep, side by side.
//!
//! deqp-vk is run on the host's own driver and on Lockstep over it, piece by piece in turns. What it says is
//! parsed, and crashes and time-outs are blamed on cases, by `deqp_runner`, whose status words and file
//! formats are used throughout.
//!
//! | module | subject |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`session`] | a run from beginning to end |
//! | [`deqp`], [`caselist`] | the binary and its cases |
//! | [`side`], [`drivers`] | native and Lockstep, and the matrix of its options |
//! | [`process`], [`parse`], [`qpa`] | one process, what it says, what it logs |
//! | [`run`], [`schedule`], [`progress`] | cases on a side; who runs what; how far it is |
//! | [`output`], [`journal`] | the output directory; results that survive a kill |
//! | [`verdict`], [`table`], [`report`] | what it all means, for people and machines |
//! | [`baseline`] | what is known to fail |
//! | [`compare`], [`bisect`] | a closer look at earlier runs |
//! | [`mock`] | a stand-in for deqp-vk |
//!
//! To add a preset, add it to [`caselist`] and [`cli`]; to add an axis of the matrix, to [`side`].

pub mod baseline;
pub mod bisect;
pub mod caselist;
pub mod cli;
pub mod compare;
pub mod deqp;
pub mod drivers;
pub mod journal;
pub mod mock;
pub mod output;
pub mod parse;
pub mod process;
pub mod progress;
pub mod qpa;
pub mod report;
pub mod run;
pub mod schedule;
pub mod session;
pub mod side;
pub mod table;
pub mod verdict;
