//! Joules: measured where the processor tells, estimated and said to be so elsewhere.

use crate::{Error, Result};
use serde::{Serialize, Serializer};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Where Linux shows the RAPL counters of Intel and AMD processors.
const POWERCAP: &str = "/sys/class/powercap";

/// Where a number of joules comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EnergySource {
    /// The processor's own counters (Running Average Power Limit): all packages with their
    /// memory where it is counted, whatever runs on them.
    Rapl,
    /// Core-seconds of this program times an assumed power.
    Estimate {
        /// Power of a busy core.
        watts_per_core: f64,
    },
}

impl fmt::Display for EnergySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EnergySource::Rapl => f.write_str("measured by RAPL"),
            EnergySource::Estimate { watts_per_core } => {
                write!(f, "estimated at {watts_per_core} W a core")
            }
        }
    }
}

impl Serialize for EnergySource {
    /// The sentence that people read.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Counts joules between two moments.
#[derive(Debug)]
pub struct Meter {
    /// Empty where the counters cannot be read.
    zones: Vec<Zone>,
    watts_per_core: f64,
}

/// A moment.
#[derive(Debug)]
pub struct Mark {
    microjoules: Vec<u64>,
    core_seconds: CoreSeconds,
}

/// One counter: it starts again at 0 after `range_uj`.
#[derive(Debug)]
struct Zone {
    counter: PathBuf,
    range_uj: u64,
}

impl Meter {
    /// RAPL where its counters are readable, otherwise `watts_per_core` for each core-second.
    pub fn open(watts_per_core: f64) -> Meter {
        Meter::open_at(Path::new(POWERCAP), watts_per_core)
    }

    fn open_at(powercap: &Path, watts_per_core: f64) -> Meter {
        Meter { zones: zones(powercap).unwrap_or_default(), watts_per_core }
    }

    /// What the joules are.
    pub fn source(&self) -> EnergySource {
        if self.zones.is_empty() {
            EnergySource::Estimate { watts_per_core: self.watts_per_core }
        } else {
            EnergySource::Rapl
        }
    }

    /// Now.
    ///
    /// # Errors
    /// If a counter cannot be read any more.
    pub fn mark(&self) -> Result<Mark> {
        let microjoules = self.zones.iter().map(Zone::microjoules).collect::<Result<_>>()?;
        Ok(Mark { microjoules, core_seconds: CoreSeconds::now() })
    }

    /// Joules since `mark`. A counter may have started again once.
    ///
    /// # Errors
    /// If a counter cannot be read any more.
    pub fn joules_since(&self, mark: &Mark) -> Result<f64> {
        if self.zones.is_empty() {
            return Ok(mark.core_seconds.elapsed() * self.watts_per_core);
        }
        let mut microjoules = 0;
        for (zone, before) in self.zones.iter().zip(&mark.microjoules) {
            microjoules += zone.since(*before)?;
        }
        Ok(microjoules as f64 * 1e-6)
    }
}

impl Zone {
    fn microjoules(&self) -> Result<u64> {
        read_number(&self.counter)
    }

    fn since(&self, before: u64) -> Result<u64> {
        let now = self.microjoules()?;
        Ok(if now >= before { now - before } else { now + self.range_uj.saturating_sub(before) })
    }
}

/// The counters that add up to the machine: each `package-N`, and `dram` below it, which a package
/// does not contain. `core` and `uncore` are parts of a package, `psys` contains it, and
/// `intel-rapl-mmio` shows the same packages again. `None` if one of them cannot be read.
fn zones(powercap: &Path) -> Option<Vec<Zone>> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(powercap).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    let mut zones = Vec::new();
    for folder in folders {
        let is_rapl = |name: &str| name.starts_with("intel-rapl:");
        if !folder.file_name().and_then(|name| name.to_str()).is_some_and(is_rapl) {
            continue;
        }
        let name = fs::read_to_string(folder.join("name")).ok()?;
        if name.starts_with("package-") || name.trim() == "dram" {
            let counter = folder.join("energy_uj");
            read_number(&counter).ok()?;
            let range_uj = read_number(&folder.join("max_energy_range_uj")).ok()?;
            zones.push(Zone { counter, range_uj });
        }
    }
    Some(zones)
}

fn read_number(path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    text.trim().parse().map_err(|_| Error::format(path, "a number", format!("`{}`", text.trim())))
}

/// Seconds of all cores that this program has kept busy.
#[derive(Debug)]
struct CoreSeconds {
    #[cfg(unix)]
    busy: f64,
    #[cfg(not(unix))]
    wall: std::time::Instant,
}

impl CoreSeconds {
    fn now() -> CoreSeconds {
        CoreSeconds {
            #[cfg(unix)]
            busy: busy_seconds(),
            #[cfg(not(unix))]
            wall: std::time::Instant::now(),
        }
    }

    #[cfg(unix)]
    fn elapsed(&self) -> f64 {
        busy_seconds() - self.busy
    }

    /// As if no thread ever waited.
    #[cfg(not(unix))]
    fn elapsed(&self) -> f64 {
        self.wall.elapsed().as_secs_f64() * rayon::current_num_threads() as f64
    }
}

#[cfg(unix)]
fn busy_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A folder as the kernel shows it: one `(folder, name, energy_uj, max_energy_range_uj)` a zone.
    fn powercap(zones: &[(&str, &str, u64, u64)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("intel-rapl")).unwrap(); // the control type, not a zone
        for (folder, name, energy_uj, range_uj) in zones {
            let zone = root.path().join(folder);
            fs::create_dir(&zone).unwrap();
            fs::write(zone.join("name"), format!("{name}\n")).unwrap();
            fs::write(zone.join("max_energy_range_uj"), format!("{range_uj}\n")).unwrap();
            set(root.path(), folder, *energy_uj);
        }
        root
    }

    fn set(root: &Path, folder: &str, energy_uj: u64) {
        fs::write(root.join(folder).join("energy_uj"), format!("{energy_uj}\n")).unwrap();
    }

    #[test]
    fn packages_and_their_memory_are_added_and_parts_are_not_counted_twice() {
        let root = powercap(&[
            ("intel-rapl:0", "package-0", 1_000_000, 9_000_000),
            ("intel-rapl:0:0", "core", 500_000, 9_000_000),
            ("intel-rapl:0:1", "dram", 0, 9_000_000),
            ("intel-rapl:1", "package-1", 0, 9_000_000),
            ("intel-rapl:2", "psys", 0, 9_000_000),
            ("intel-rapl-mmio:0", "package-0", 1_000_000, 9_000_000),
        ]);
        let meter = Meter::open_at(root.path(), 5.0);
        assert_eq!(meter.source().to_string(), "measured by RAPL");
        let mark = meter.mark().unwrap();
        set(root.path(), "intel-rapl:0", 3_000_000); // + 2 J
        set(root.path(), "intel-rapl:0:0", 2_000_000);
        set(root.path(), "intel-rapl:0:1", 250_000); // + 0.25 J
        set(root.path(), "intel-rapl:1", 500_000); // + 0.5 J
        set(root.path(), "intel-rapl:2", 7_000_000);
        set(root.path(), "intel-rapl-mmio:0", 3_000_000);
        assert_eq!(meter.joules_since(&mark).unwrap(), 2.75);
    }

    #[test]
    fn a_counter_that_starts_again_goes_on() {
        let root = powercap(&[("intel-rapl:0", "package-0", 9_000_000, 10_000_000)]);
        let meter = Meter::open_at(root.path(), 5.0);
        let mark = meter.mark().unwrap();
        // 1 J to the end of the range and 2 J after it.
        set(root.path(), "intel-rapl:0", 2_000_000);
        assert_eq!(meter.joules_since(&mark).unwrap(), 3.0);
    }

    #[test]
    fn without_readable_counters_core_seconds_are_multiplied() {
        let none = tempfile::tempdir().unwrap();
        let unreadable = powercap(&[("intel-rapl:0", "package-0", 1, 2)]);
        fs::remove_file(unreadable.path().join("intel-rapl:0/energy_uj")).unwrap();
        for root in [none.path(), unreadable.path(), Path::new("/no/such/folder")] {
            let meter = Meter::open_at(root, 7.5);
            assert_eq!(meter.source().to_string(), "estimated at 7.5 W a core");
            let (mark, begin) = (meter.mark().unwrap(), Instant::now());
            while begin.elapsed().as_millis() < 20 {
                std::hint::black_box((0..1000).sum::<u64>());
            }
            // Other tests keep other cores busy meanwhile.
            assert!(meter.joules_since(&mark).unwrap() > 0.001 * 7.5);
        }
    }

    #[test]
    fn a_counter_that_is_no_number_is_told() {
        let root = powercap(&[("intel-rapl:0", "package-0", 1, 2)]);
        let meter = Meter::open_at(root.path(), 5.0);
        let counter = root.path().join("intel-rapl:0/energy_uj");
        fs::write(&counter, "gone\n").unwrap();
        let expected = format!("`{}`: expected a number, got `gone`", counter.display());
        assert_eq!(meter.mark().unwrap_err().to_string(), expected);
    }
}
