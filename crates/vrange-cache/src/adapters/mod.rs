//! A cache behind the traits of other crates, for programs that use one of those already. Each has a Cargo feature, and nothing of it is
//! in a build without that.

#[cfg(feature = "http-cache")]
pub mod http_cache;
