//! A file that does not fit a reader's head has more than one reason to change.

use super::Finding;
use super::source::RustSource;

const RULE: &str = "file-length";
const LINES_MAX: usize = 700;

/// Finds files whose lines outside tests are too many.
pub(super) fn check(source: &RustSource) -> Vec<Finding> {
    let lines = source.numbered_code().filter(|(line, _)| !source.is_test_line(*line)).count();
    if lines <= LINES_MAX {
        return Vec::new();
    }
    let message =
        format!("{lines} lines outside tests, at most {LINES_MAX}: split at the second reason to change");
    vec![Finding::new(&source.path, 0, RULE, message)]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&RustSource::parse(Path::new(path), text)).len()
    }

    #[test]
    fn a_long_file_is_found_and_a_long_test_is_not() {
        let long = "const A: u8 = 0;\n".repeat(LINES_MAX + 1);
        assert_eq!(count("crates/a/src/a.rs", &long), 1);
        assert_eq!(count("crates/a/tests/a.rs", &long), 0);
        assert_eq!(count("crates/a/src/a.rs", &long[..long.len() / 2]), 0);
        let tested = format!("const B: u8 = 0;\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(count("crates/a/src/a.rs", &tested), 0);
    }
}
