//! Which module may know which: the layers of ARCHITECTURE.md.

use super::Finding;
use super::imports::{is_within, named_paths};
use super::source::RustSource;

const RULE: &str = "layers";

/// A folder whose files, or a file which, must not name some modules.
struct Layer {
    folder: &'static str,
    /// The one file in the folder that is free to.
    except: &'static str,
    forbidden: &'static [&'static str],
    /// Whether tests are free to.
    except_tests: bool,
    reason: &'static str,
}

const LAYERS: &[Layer] = &[
    Layer {
        folder: "crates/vrange/src/range/",
        except: "",
        forbidden: &["crate::reclaim", "crate::pressure"],
        except_tests: false,
        reason: "a range does not know who reclaims it or why; let `reclaim` call in",
    },
    Layer {
        folder: "crates/vrange/src/marks/",
        except: "",
        forbidden: &["crate::reclaim", "crate::pressure", "crate::heap", "crate::buffer", "crate::guard"],
        except_tests: false,
        reason: "marks do what they are told; let `reclaim` and `raw` call in",
    },
    Layer {
        folder: "crates/vrange/src/inner.rs",
        except: "",
        forbidden: &["crate::reclaim", "crate::pressure", "crate::heap", "crate::buffer", "crate::guard"],
        except_tests: false,
        reason: "a heap's inside does what it is told; let `reclaim` and what programs hold call in",
    },
    Layer {
        folder: "crates/vrange/src/pressure/",
        except: "",
        forbidden: &["crate::range", "crate::reclaim"],
        except_tests: false,
        reason: "pressure only measures; `reclaim` joins it with the ranges",
    },
    Layer {
        folder: "crates/vrange/src/observe/",
        except: "",
        forbidden: &[
            "crate::range",
            "crate::marks",
            "crate::reclaim",
            "crate::pressure",
            "crate::heap",
            "crate::inner",
        ],
        except_tests: false,
        reason: "what is published does not know where it comes from; let `reclaim` fill it in",
    },
    Layer {
        folder: "crates/vrange/src/",
        except: "crates/vrange/src/sync.rs",
        forbidden: &["std::sync::atomic", "core::sync::atomic", "std::thread"],
        except_tests: true,
        reason: "import atomics and threads through `crate::sync`, so that loom can stand in for them",
    },
    Layer {
        folder: "crates/vrange-os/src/",
        except: "",
        forbidden: &["vrange", "vrange_cli"],
        except_tests: false,
        reason: "the operating-system layer knows nothing above it",
    },
    Layer {
        folder: "crates/vrange-model/",
        except: "",
        forbidden: &["vrange", "vrange_os", "vrange_cli", "vrange_testing"],
        except_tests: false,
        reason: "the model knows nothing of what is tested against it",
    },
    Layer {
        folder: "crates/vrange-model/src/",
        except: "",
        forbidden: &[
            "std::env",
            "std::fs",
            "std::io",
            "std::net",
            "std::process",
            "std::thread",
            "std::time",
        ],
        except_tests: false,
        reason: "the model has no input or output, no clock and no threads: a seed is all that it depends on",
    },
    Layer {
        folder: "crates/vrange/src/",
        except: "",
        forbidden: &["vrange_cli", "vrange_cache"],
        except_tests: false,
        reason: "the library does not know its command, nor what is built on it",
    },
    Layer {
        folder: "crates/vrange-cache/src/",
        except: "",
        forbidden: &[
            "vrange_os",
            "vrange_allocator",
            "vrange_cli",
            "vrange_malloc",
            "vrange_model",
            "vrange_preload",
            "vrange_testing",
        ],
        except_tests: false,
        reason: "the cache is a program of `vrange`'s and knows nothing else of the workspace",
    },
    Layer {
        folder: "crates/vrange-cache/src/",
        except: "crates/vrange-cache/src/sync.rs",
        forbidden: &["std::sync::atomic", "core::sync::atomic", "std::thread"],
        except_tests: true,
        reason: "import atomics through `crate::sync`, so that loom can stand in for them",
    },
    Layer {
        folder: "crates/vrange-cache/src/log/",
        except: "",
        forbidden: &["crate::policy", "crate::inner", "crate::cache", "crate::entry", "crate::index::item"],
        except_tests: false,
        reason: "the log stores bytes; which of them stay, and who looks for them, is decided above it",
    },
    Layer {
        folder: "crates/vrange-cache/src/index/",
        except: "",
        forbidden: &[
            "crate::policy",
            "crate::inner",
            "crate::cache",
            "crate::entry",
            "crate::log::segment",
            "crate::log::turn",
            "crate::log::roster",
            "crate::log::Store",
        ],
        except_tests: false,
        reason: "the index knows where values are, not how they are stored nor which of them stay",
    },
    Layer {
        folder: "crates/vrange-cache/src/adapters/",
        except: "",
        forbidden: &["crate::policy", "crate::inner", "crate::log", "crate::index"],
        except_tests: false,
        reason: "an adapter uses the cache as any program does",
    },
];

/// Finds paths that reach into a module their layer must not know.
pub(super) fn check(source: &RustSource) -> Vec<Finding> {
    let path = source.path.to_string_lossy();
    let layers: Vec<&Layer> =
        LAYERS.iter().filter(|layer| path.starts_with(layer.folder) && path != layer.except).collect();
    if layers.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (named, line) in named_paths(source) {
        let is_test = source.is_test_line(line);
        for layer in layers.iter().filter(|layer| !(is_test && layer.except_tests)) {
            if let Some(module) = layer.forbidden.iter().find(|module| is_within(&named, module)) {
                let message = format!("`{module}` must not be named here: {}", layer.reason);
                findings.push(Finding::new(&source.path, line, RULE, message));
            }
        }
    }
    findings.dedup();
    findings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&RustSource::parse(Path::new(path), text)).len()
    }

    #[test]
    fn ranges_do_not_know_the_reclaimer_nor_pressure() {
        let path = "crates/vrange/src/range/protocol.rs";
        assert_eq!(count(path, "use crate::reclaim::Worker;\n"), 1);
        assert_eq!(count(path, "use crate::{error::Error, pressure};\n"), 1);
        assert_eq!(count(path, "use super::super::reclaim;\n"), 1);
        assert_eq!(count(path, "use crate::range::state::State;\n"), 0);
    }

    #[test]
    fn the_inside_of_a_heap_does_not_know_what_is_above_it() {
        let path = "crates/vrange/src/inner.rs";
        assert_eq!(count(path, "use crate::reclaim::runtime;\n"), 1);
        assert_eq!(count(path, "use crate::range::Memory;\n"), 0);
    }

    #[test]
    fn pressure_does_not_know_ranges_nor_the_reclaimer() {
        let path = "crates/vrange/src/pressure/levels.rs";
        assert_eq!(count(path, "fn f() { crate::range::table(); }\n"), 1);
        assert_eq!(count(path, "use crate::reclaim;\n"), 1);
        assert_eq!(count(path, "use std::ops::Range;\n"), 0);
    }

    #[test]
    fn what_is_published_does_not_know_where_it_comes_from() {
        let path = "crates/vrange/src/observe/layout.rs";
        assert_eq!(count(path, "use crate::reclaim::pool::Pool;\n"), 1);
        assert_eq!(count(path, "use crate::stats::Stats;\n"), 0);
    }

    #[test]
    fn atomics_come_through_one_module() {
        for text in
            ["use std::sync::atomic::AtomicU64;\n", "use core::sync::atomic;\n", "use std::{fs, thread};\n"]
        {
            assert_eq!(count("crates/vrange/src/heap.rs", text), 1, "{text}");
            assert_eq!(count("crates/vrange/src/sync.rs", text), 0, "{text}");
        }
        assert_eq!(count("crates/vrange/src/heap.rs", "use std::sync::Arc;\nuse crate::sync::thread;\n"), 0);
        assert_eq!(count("crates/vrange/src/range/gate/loom_tests.rs", "use std::thread;\n"), 0);
    }

    #[test]
    fn the_operating_system_layer_is_the_lowest() {
        assert_eq!(count("crates/vrange-os/src/psi.rs", "use vrange::Heap;\n"), 1);
        assert_eq!(count("crates/vrange-os/src/psi.rs", "use vrange_os::Span;\n"), 0);
    }

    #[test]
    fn the_model_depends_on_nothing() {
        assert_eq!(count("crates/vrange-model/src/machine.rs", "use vrange_os::Span;\n"), 1);
        assert_eq!(count("crates/vrange-model/tests/properties.rs", "use vrange::Heap;\n"), 1);
        assert_eq!(count("crates/vrange-model/src/machine.rs", "use std::time::Instant;\n"), 1);
        assert_eq!(count("crates/vrange-model/tests/properties.rs", "use std::time::Instant;\n"), 0);
        assert_eq!(count("crates/vrange-model/tests/properties.rs", "use vrange_model::Machine;\n"), 0);
    }

    #[test]
    fn the_cache_is_joined_in_one_place() {
        let count = |file: &str, text| count(&format!("crates/vrange-cache/src/{file}"), text);
        assert_eq!(count("log/segment.rs", "use crate::policy::Policy;\n"), 1);
        assert_eq!(count("log/segment.rs", "use crate::index::place::Place;\n"), 0);
        assert_eq!(count("index/item.rs", "use crate::log::segment::Segment;\n"), 1);
        assert_eq!(count("index/item.rs", "use crate::log::large::Large;\n"), 0);
        assert_eq!(count("adapters/http_cache.rs", "use crate::inner::Inner;\n"), 1);
        assert_eq!(count("inner.rs", "use crate::policy::Policy;\nuse crate::log::Store;\n"), 0);
        assert_eq!(count("inner.rs", "use vrange_os::Span;\nuse std::sync::atomic::AtomicU8;\n"), 2);
    }

    #[test]
    fn other_folders_are_free() {
        assert_eq!(count("crates/vrange-cli/src/main.rs", "use std::thread;\nuse vrange::Heap;\n"), 0);
    }
}
