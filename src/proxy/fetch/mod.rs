//! From the origin into the cache: fills, what they ask the origin for, and how they go on where one was cut.

pub mod backpressure;
pub mod fill;
pub mod finish;
pub mod form;
pub mod origin;
pub mod progress;
pub mod range_bypass;
pub mod receive;
pub mod request;
pub mod resume;
pub mod splice;
pub mod storable;
pub mod transfer;
