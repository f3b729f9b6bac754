//! Which symbols an ELF file defines, of those that tell an allocator or a dynamic linker by.

use std::fmt::Display;
use std::fs::File;
use std::path::Path;

use object::Endianness;
use object::elf::{FileHeader64, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, Sym64};
use object::read::elf::{FileHeader, SectionHeader as _, SectionTable, Sym as _};
use object::read::{ReadCache, ReadRef, SectionIndex, StringTable};

use crate::failure::Failure;

type Elf = FileHeader64<Endianness>;

/// What gperftools' tcmalloc calls to give pages back, and before it uses such pages again.
pub(super) const TCMALLOC_RELEASE: &str = "_Z22TCMalloc_SystemReleasePvm";
/// As above.
pub(super) const TCMALLOC_COMMIT: &str = "_Z21TCMalloc_SystemCommitPvm";

/// All that are looked for.
const NAMES: [&str; 9] = [
    "malloc",
    // Of jemalloc; of jemalloc as redis builds it, and as Rust's crate does.
    "mallctl",
    "je_mallctl",
    "_rjem_mallctl",
    "mi_malloc",
    "tc_malloc",
    TCMALLOC_RELEASE,
    TCMALLOC_COMMIT,
    // Of glibc's dynamic linker.
    "_rtld_global",
];

/// The symbols of a file, of those that are looked for.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// Defined for everything that is loaded into the process.
    exported: Vec<&'static str>,
    /// Defined and used by the file in such a way that a definition which was loaded earlier is used instead.
    open: Vec<&'static str>,
    /// Defined for the file alone.
    internal: Vec<&'static str>,
}

impl Symbols {
    /// What a shared library defines for others.
    pub(super) fn of_library(path: &Path) -> Result<Self, Failure> {
        Self::read(path, false)
    }

    /// What a program defines, for itself too, as far as that was not stripped.
    pub(super) fn of_program(path: &Path) -> Result<Self, Failure> {
        Self::read(path, true)
    }

    /// Does the file define it for everything that is loaded into the process?
    pub(super) fn exports(&self, name: &str) -> bool {
        self.exported.contains(&name)
    }

    /// Would the file itself use a definition that was loaded earlier?
    pub(super) fn leaves_open(&self, name: &str) -> bool {
        self.open.contains(&name)
    }

    /// Does the file define it, for others or for itself?
    pub(super) fn defines(&self, name: &str) -> bool {
        self.exports(name) || self.internal.contains(&name)
    }

    fn read(path: &Path, internal_too: bool) -> Result<Self, Failure> {
        let cannot = |error: &dyn Display| {
            Failure::cannot_run(format!("cannot look into {}: {error}", path.display()))
                .hint("with `--malloc none` nobody looks for the program's allocator")
        };
        let file = File::open(path).map_err(|error| cannot(&error))?;
        // Libraries can be large, and little of them is needed.
        Self::parse(&ReadCache::new(file), internal_too).map_err(|error| cannot(&error))
    }

    fn parse<'data, R: ReadRef<'data>>(data: R, internal_too: bool) -> object::read::Result<Self> {
        let header = Elf::parse(data)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, data)?;
        let mut symbols = Self::default();
        for (index, section) in sections.enumerate() {
            match section.sh_type(endian) {
                SHT_DYNSYM => {
                    let exported = defined(&sections, index, endian, data)?;
                    symbols.open = open(&exported, &sections, index, endian, data)?;
                    symbols.exported = exported.into_iter().map(|(_, name)| name).collect();
                }
                SHT_SYMTAB if internal_too => {
                    let internal = defined(&sections, index, endian, data)?;
                    symbols.internal = internal.into_iter().map(|(_, name)| name).collect();
                }
                _ => {}
            }
        }
        Ok(symbols)
    }

    /// Made up, for tests.
    #[cfg(test)]
    pub(super) fn new(exported: &[&'static str], open: &[&'static str], internal: &[&'static str]) -> Self {
        Self { exported: exported.to_vec(), open: open.to_vec(), internal: internal.to_vec() }
    }
}

/// The symbols that a table defines, each with its place in the table.
fn defined<'data, R: ReadRef<'data>>(
    sections: &SectionTable<'data, Elf, R>,
    table: SectionIndex,
    endian: Endianness,
    data: R,
) -> object::read::Result<Vec<(usize, &'static str)>> {
    let section = sections.section(table)?;
    let symbols: &[Sym64<Endianness>] = section.data_as_array(endian, data)?;
    // Read as a whole: a call of the system for each name would be slow.
    let names = sections.section(section.link(endian))?.data(endian, data)?;
    let names = StringTable::new(names, 0, names.len() as u64);
    let mut found = Vec::new();
    for (place, symbol) in symbols.iter().enumerate() {
        if symbol.st_shndx(endian) == SHN_UNDEF {
            continue;
        }
        let name = symbol.name(endian, names)?;
        found.extend(NAMES.iter().find(|known| known.as_bytes() == name).map(|known| (place, *known)));
    }
    Ok(found)
}

/// Those for which the dynamic linker is asked to find the definition, although the file has one. A library that was linked to
/// keep its own, or in which they are hidden, does not ask.
fn open<'data, R: ReadRef<'data>>(
    exported: &[(usize, &'static str)],
    sections: &SectionTable<'data, Elf, R>,
    table: SectionIndex,
    endian: Endianness,
    data: R,
) -> object::read::Result<Vec<&'static str>> {
    let mut open = Vec::new();
    for section in sections.iter() {
        let Some((relocations, link)) = section.rela(endian, data)? else { continue };
        if link != table || exported.is_empty() {
            continue;
        }
        for relocation in relocations {
            let place = relocation.r_sym(endian, false) as usize;
            open.extend(exported.iter().find(|(of, _)| *of == place).map(|(_, name)| *name));
        }
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test program defines no allocator, but the library that it is linked with does.
    #[test]
    fn a_symbol_that_is_only_used_is_not_defined() {
        let program = std::env::current_exe().expect("a path");
        let symbols = Symbols::of_program(&program).expect("this test program");
        assert!(!symbols.defines("malloc"), "{symbols:?}");
        assert!(Symbols::of_library(Path::new("/proc/self/exe")).is_ok_and(|same| !same.exports("malloc")));
    }

    #[test]
    fn what_is_no_elf_file_cannot_be_looked_into() {
        for path in ["/proc/self/status", "/no/such/file", "/"] {
            let failure = Symbols::of_library(Path::new(path)).expect_err(path);
            assert!(failure.report().contains(&format!("cannot look into {path}: ")), "{}", failure.report());
        }
    }
}
