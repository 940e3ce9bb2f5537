//! The checks of the fuzz targets. The fuzz engine calls them with the inputs it finds, and the promise `fuzzing` with seeds
//! and random inputs.

pub mod identity_headers;
pub mod readings;
pub mod stripping;
pub mod target;
