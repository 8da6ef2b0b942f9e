//! The devices a worker has.

use serde::Serialize;

use crate::train::fields::DeviceChoice;

/// A device as it is registered with the host.
#[derive(Debug, Clone, Serialize)]
pub struct Device {
    /// `cpu` or `cuda`.
    pub kind: &'static str,
    /// Its memory; 0 where unknown.
    pub memory_bytes: u64,
}

/// What this worker can train on.
pub fn list() -> Vec<Device> {
    let mut devices = vec![Device {
        kind: "cpu",
        memory_bytes: system_memory(),
    }];
    if has_cuda() {
        devices.push(Device {
            kind: "cuda",
            memory_bytes: 0,
        });
    }
    devices
}

/// The device for a job, never [`DeviceChoice::Auto`]; the error says why there is none.
pub fn choose(asked: DeviceChoice) -> Result<DeviceChoice, String> {
    match asked {
        DeviceChoice::Cuda if !cfg!(feature = "cuda") => Err(
            "`device` is `cuda`, but this worker was built without the cargo feature `cuda`; allowed are `cpu` and `auto`"
                .to_owned(),
        ),
        DeviceChoice::Cuda if !has_cuda() => {
            Err("`device` is `cuda`, but this machine has no NVIDIA device (`/dev/nvidiactl`)".to_owned())
        }
        DeviceChoice::Auto if has_cuda() => Ok(DeviceChoice::Cuda),
        DeviceChoice::Auto => Ok(DeviceChoice::Cpu),
        chosen => Ok(chosen),
    }
}

fn has_cuda() -> bool {
    cfg!(feature = "cuda") && std::path::Path::new("/dev/nvidiactl").exists()
}

/// The bytes of memory of this machine; 0 where unknown.
pub fn system_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = info.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()
    });
    kib.map_or(0, |kib: u64| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_cuda_device_or_the_feature_cuda_is_refused_and_auto_is_the_cpu() {
        if has_cuda() {
            return;
        }
        let refused = choose(DeviceChoice::Cuda).unwrap_err();
        let why = match cfg!(feature = "cuda") {
            true => "no NVIDIA device",
            false => "cargo feature `cuda`",
        };
        assert!(refused.contains(why), "{refused}");
        assert_eq!(choose(DeviceChoice::Auto), Ok(DeviceChoice::Cpu));
        assert_eq!(list().first().map(|device| device.kind), Some("cpu"));
    }
}
