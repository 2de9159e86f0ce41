//! The Registrar: puts a document's hash on chain, and knows what happened.
pub mod api;
pub mod app;
pub mod chain;
pub mod cli;
pub mod config;
pub mod pipeline;
pub mod registration;
pub mod store;
pub mod telemetry;
