//! A C++ compiler: the same object files, byte for byte.

use std::fs;

use crate::support::{Way, errors, finish, input, is_soak, program};

/// Object files at several levels of optimization.
fn objects(way: Way) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a directory");
    let levels = ["-O0", "-O2", "-O3"];
    let objects = levels.map(|level| {
        let mut command = way.command_with_stats(&which::which("g++").expect("it is there"));
        command.args(["-std=c++17", "-g", level, "-c", "-o", "heavy.o"]).arg(input("heavy.cpp"));
        // Where it was compiled is part of an object file.
        command.arg(format!("-fdebug-prefix-map={}=.", folder.path().display()));
        let output = finish(command.current_dir(folder.path()));
        way.assert_marked(&errors(&output));
        fs::read(folder.path().join("heavy.o")).expect("an object file")
    });
    objects.to_vec()
}

#[test]
fn a_cpp_compiler_on_mimalloc() {
    let way = Way::Malloc("auto");
    if !is_soak() || program("g++").is_none() || !way.is_here(None) {
        return;
    }
    assert!(objects(way) == objects(Way::Plain), "{way}: other object files");
}
