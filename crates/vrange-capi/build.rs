//! How the shared library is linked.

fn main() {
    // What a program that was linked with it asks for when it starts: a library of this major version.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libvrange.so.0");
    // The reclaimer's thread and the fork handlers are for good, so the code stays when a program closes the library.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
}
