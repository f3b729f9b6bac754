//! What results depend on besides what is measured.

use std::fs;

const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const CPU: &str = "/proc/cpuinfo";

/// The machine that is measured on.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The processors' name, or at least their architecture.
    model: String,
    processors: usize,
    kernel: String,
    /// Who gets huge pages.
    huge_pages: String,
}

impl Machine {
    /// This one, with as many processors as this process may use.
    pub(crate) fn look() -> Self {
        let huge_pages = fs::read_to_string(THP).ok().and_then(|text| chosen(&text).map(str::to_owned));
        Self {
            model: cpu_model(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            huge_pages: huge_pages.unwrap_or("none".to_owned()),
        }
    }

    /// One line.
    pub(crate) fn describe(&self) -> String {
        let processors = if self.processors == 1 { "processor" } else { "processors" };
        format!(
            "{}, {} {processors}, Linux {}, transparent huge pages: {}",
            self.model, self.processors, self.kernel, self.huge_pages
        )
    }
}

/// The processors' name; of an ARM machine, whose kernel does not tell it, the architecture.
pub(crate) fn cpu_model() -> String {
    let text = fs::read_to_string(CPU).unwrap_or_default();
    model(&text).unwrap_or(std::env::consts::ARCH).to_owned()
}

fn model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim()).filter(|name| !name.is_empty())
}

/// Of the last minute; what disturbs a measurement that the machine is not left alone for.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
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
    }

    #[test]
    fn the_model_is_what_the_kernel_calls_it() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 49\nmodel name\t: AMD EPYC 7B12\nstepping\t: 0\n";
        assert_eq!(model(cpuinfo), Some("AMD EPYC 7B12"));
        assert_eq!(model("processor\t: 0\nCPU part\t: 0xd0c\n"), None);
        assert!(Machine::look().describe().contains(", Linux "), "{}", Machine::look().describe());
    }
}
