//! `vrange run` finds its library: where it is installed, beside the command, and where a variable says.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{are_built, stderr, stdout};
use tempfile::TempDir;
use vrange_testing::copy_program;

const LIBRARY: &str = "libvrange_preload.so";
const VARIABLE: &str = "VRANGE_LIBDIR";

/// A folder with a copy of the command in `bin`.
struct Place(TempDir);

impl Place {
    /// None, and says so, where the library is not built.
    fn make() -> Option<Self> {
        let place = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir(place.path("bin")).expect("a folder");
        copy_program(env!("CARGO_BIN_EXE_vrange"), place.path("bin/vrange"));
        are_built(&[LIBRARY]).then_some(place)
    }

    fn path(&self, path: &str) -> PathBuf {
        // As the kernel names it.
        self.0.path().canonicalize().expect("it is there").join(path)
    }

    /// Puts a copy of the library into a folder.
    fn put(&self, folder: &str) {
        let built = Path::new(env!("CARGO_BIN_EXE_vrange")).parent().expect("a folder");
        let library = [built.join(LIBRARY), built.join("deps").join(LIBRARY)];
        let library = library.into_iter().find(|library| library.exists()).expect("it is built");
        fs::create_dir_all(self.path(folder)).expect("a folder");
        fs::copy(library, self.path(folder).join(LIBRARY)).expect("a copy of the library");
    }

    fn run(&self, command: &str, variable: Option<&Path>) -> Output {
        let mut command = Command::new(self.path(command));
        command.args(["run", "--malloc", "none", "sh", "-c", "echo $LD_PRELOAD"]);
        command.env_remove("LD_PRELOAD").env_remove(VARIABLE).current_dir(self.0.path());
        command.envs(variable.map(|folder| (VARIABLE, folder)));
        command.output().expect("the command starts")
    }

    #[track_caller]
    fn finds(&self, command: &str, variable: Option<&Path>, folder: &str) {
        let output = self.run(command, variable);
        let expected = self.path(folder).join(LIBRARY);
        assert_eq!(stdout(&output), format!("{}\n", expected.display()), "{}", stderr(&output));
    }
}

#[test]
fn it_is_found_where_it_is_installed() {
    let Some(place) = Place::make() else { return };
    place.put("lib");
    place.finds("bin/vrange", None, "lib");
    // By a link to the command, as /usr/bin may have it.
    symlink(place.path("bin/vrange"), place.path("link")).expect("a link");
    place.finds("link", None, "lib");
}

#[test]
fn it_is_found_beside_the_command() {
    let Some(place) = Place::make() else { return };
    place.put("bin");
    place.finds("bin/vrange", None, "bin");
    // What is installed comes first.
    place.put("lib");
    place.finds("bin/vrange", None, "lib");
}

#[test]
fn it_is_found_where_the_variable_says() {
    let Some(place) = Place::make() else { return };
    place.put("elsewhere");
    place.finds("bin/vrange", Some(&place.path("elsewhere")), "elsewhere");
    place.finds("bin/vrange", Some(Path::new("elsewhere")), "elsewhere");
    // It comes before all that is beside the command; an empty one says nothing.
    place.put("lib");
    place.finds("bin/vrange", Some(&place.path("elsewhere")), "elsewhere");
    place.finds("bin/vrange", Some(Path::new("")), "lib");
}

/// The controls: no other place is looked at, and no program runs without the library.
#[test]
fn where_it_is_not_nothing_runs() {
    let Some(place) = Place::make() else { return };
    let refused = |output: &Output, says: &str| {
        assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
        assert!(stderr(output).contains(says), "{}", stderr(output));
        assert_eq!(stdout(output), "", "the program ran all the same");
    };
    refused(&place.run("bin/vrange", None), &format!("{LIBRARY} is neither in "));
    place.put("lib");
    fs::create_dir(place.path("empty")).expect("a folder");
    refused(&place.run("bin/vrange", Some(&place.path("empty"))), VARIABLE);
    refused(
        &place.run("bin/vrange", Some(Path::new("/no/such/folder"))),
        "/no/such/folder/libvrange_preload.so",
    );
    // The dynamic linker would take a part of that path for another library.
    place.put("a b");
    refused(&place.run("bin/vrange", Some(&place.path("a b"))), "has a space or a colon in it");
}
