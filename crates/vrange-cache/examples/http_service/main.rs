//! A web service whose pages are kept in volatile memory.
//!
//! ```sh
//! cargo run --release -p vrange-cache --example http_service -- DIR [PORT [volatile|ordinary|none]]
//! ```
//!
//! It shows the files of a folder to programs on the same machine: `/page/PATH` is a file with line numbers (or in hexadecimal, if it is no
//! text), compressed if the client takes gzip. To make a page takes milliseconds, so pages are kept: in all the memory that nobody
//! needs, with no size to choose, and without making the process one that is killed when memory gets short. Of those who ask for the
//! same page at the same time, one has it made. `/stats` tells what came of it. Ctrl-C ends it, once the answers in progress are out.

mod page;
mod service;
mod store;

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;

use service::Service;
use store::Store;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: http_service DIR [PORT [volatile|ordinary|none]]")?;
    let port = arguments.next().map_or(Ok(8080), |word| word.parse())?;
    let store = Store::named(arguments.next().as_deref().unwrap_or("volatile"))?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("http://{}/page/... shows files of {folder}; Ctrl-C ends", listener.local_addr()?);
    let service = Arc::new(Service { folder: folder.into(), store });
    service::serve(listener, Arc::clone(&service)).await?;
    println!("{}", service.store.stats());
    Ok(())
}
