//! What results depend on besides the allocators.

use std::fs;

const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// The machine that is measured on.
#[derive(Debug)]
pub(in crate::bench) struct Machine {
    processors: usize,
    kernel: String,
    /// Who gets huge pages.
    huge_pages: String,
}

impl Machine {
    pub(in crate::bench) fn look(processors: usize) -> Self {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let huge_pages = fs::read_to_string(THP).ok().and_then(|text| chosen(&text).map(str::to_owned));
        Self { processors, kernel, huge_pages: huge_pages.unwrap_or("none".to_owned()) }
    }

    /// One line.
    pub(in crate::bench) fn describe(&self) -> String {
        let processors = if self.processors == 1 { "processor" } else { "processors" };
        format!(
            "{} {processors}, Linux {}, transparent huge pages: {}",
            self.processors, self.kernel, self.huge_pages
        )
    }
}

/// The word in brackets.
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_the_word_in_brackets() {
        assert_eq!(chosen("always [madvise] never\n"), Some("madvise"));
        assert_eq!(chosen("never\n"), None);
        assert!(Machine::look(2).describe().starts_with("2 processors, Linux "));
    }
}
