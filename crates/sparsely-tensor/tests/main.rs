//! The engine against slow loops, central differences, and itself bit for bit.

mod bitwise;
mod central_differences;
mod draw;
mod dropout;
mod errors;
mod ops_match_twins;
mod optimiser;
mod twins;
