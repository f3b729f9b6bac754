//! The hooks of tcmalloc, jemalloc and mimalloc under C programs that know nothing of them, and do what is hard on an allocator. All
//! that the programs store they check again.

mod churn;
mod descendants;
mod give_back;
mod huge_pages;
mod jemalloc;
mod kernel_calls;
mod limits;
mod loading;
mod reentry;
mod support;
mod threads;
