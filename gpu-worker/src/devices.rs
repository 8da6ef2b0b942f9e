//! The devices a worker has.

use std::process::Command;

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

/// An NVIDIA device, as the driver's own program tells of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gpu {
    /// Its number on the machine.
    pub index: String,
    /// Its name, which no other device has.
    pub uuid: String,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// How much of that is taken.
    pub memory_used_bytes: u64,
    /// The part of the last moments in which it computed, from 0 to 1.
    pub utilization: f64,
}

/// What this worker can train on: the CPU, and every NVIDIA device that it may use.
pub fn list() -> Vec<Device> {
    let cpu = Device {
        kind: "cpu",
        memory_bytes: system_memory(),
    };
    let cuda = cuda_memories().into_iter().map(|memory_bytes| Device {
        kind: "cuda",
        memory_bytes,
    });
    std::iter::once(cpu).chain(cuda).collect()
}

/// The device for a job, never [`DeviceChoice::Auto`], of which it wants so many; the error says why they are not there.
pub fn choose(asked: DeviceChoice, replicas: usize) -> Result<DeviceChoice, String> {
    match asked {
        DeviceChoice::Cuda if !cfg!(feature = "cuda") => Err(
            "`device` is `cuda`, but this worker was built without the cargo feature `cuda`; allowed are `cpu` and `auto`"
                .to_owned(),
        ),
        DeviceChoice::Cuda if !has_cuda() => {
            Err("`device` is `cuda`, but this machine has no NVIDIA device (`/dev/nvidiactl`)".to_owned())
        }
        DeviceChoice::Cuda | DeviceChoice::Auto if has_cuda() => enough(replicas, cuda_memories().len()),
        _ => Ok(DeviceChoice::Cpu),
    }
}

/// A gang on CUDA needs as many devices; one replica is left to what the driver says of them.
fn enough(replicas: usize, there: usize) -> Result<DeviceChoice, String> {
    match replicas <= there.max(1) {
        true => Ok(DeviceChoice::Cuda),
        false => Err(format!(
            "`replicas` is {replicas}, but this machine has {there} NVIDIA devices that the worker may use"
        )),
    }
}

/// The first devices, so many.
#[cfg(feature = "cuda")]
pub fn cuda(count: usize) -> Vec<burn::backend::cuda::CudaDevice> {
    (0..count).map(burn::backend::cuda::CudaDevice::new).collect()
}

fn has_cuda() -> bool {
    cfg!(feature = "cuda") && has_driver()
}

fn has_driver() -> bool {
    std::path::Path::new("/dev/nvidiactl").exists()
}

/// The memory of every NVIDIA device that this process may train on; 0 where the driver's own program does not tell.
fn cuda_memories() -> Vec<u64> {
    if !has_cuda() {
        return Vec::new();
    }
    let memories: Vec<u64> = gpus().iter().map(|gpu| gpu.memory_bytes).collect();
    match memories.is_empty() {
        true => vec![0],
        false => memories,
    }
}

/// The NVIDIA devices that this process may use; asking takes the driver's program some tenths of a second.
pub fn gpus() -> Vec<Gpu> {
    if !has_driver() {
        return Vec::new();
    }
    let query = "--query-gpu=index,uuid,memory.total,memory.used,utilization.gpu";
    let told = Command::new("nvidia-smi")
        .args([query, "--format=csv,noheader,nounits"])
        .output();
    let told = told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    visible_of(&told.unwrap_or_default(), visible.as_deref())
}

/// The devices in what `nvidia-smi` told: those that are visible, in their order.
fn visible_of(told: &str, visible: Option<&str>) -> Vec<Gpu> {
    let devices: Vec<Gpu> = told.lines().filter_map(read).collect();
    let Some(visible) = visible else {
        return devices;
    };
    // As CUDA reads it: indices or beginnings of names, up to the first that is not there.
    let find = |name: &str| {
        let named =
            |gpu: &&Gpu| gpu.index == name || (name.starts_with("GPU-") && gpu.uuid.starts_with(name));
        devices.iter().find(named).cloned()
    };
    visible.split(',').map(str::trim).map_while(find).collect()
}

/// A line of it; figures that a device does not tell are 0.
fn read(line: &str) -> Option<Gpu> {
    let mut fields = line.split(',').map(str::trim);
    let (index, uuid) = (fields.next()?.to_owned(), fields.next()?.to_owned());
    let mut number = || {
        fields
            .next()
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Some(Gpu {
        index,
        uuid,
        memory_bytes: number() << 20,
        memory_used_bytes: number() << 20,
        utilization: number() as f64 / 100.0,
    })
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
        let refused = choose(DeviceChoice::Cuda, 1).unwrap_err();
        let why = match cfg!(feature = "cuda") {
            true => "no NVIDIA device",
            false => "cargo feature `cuda`",
        };
        assert!(refused.contains(why), "{refused}");
        assert_eq!(choose(DeviceChoice::Auto, 4), Ok(DeviceChoice::Cpu));
        assert_eq!(list().first().map(|device| device.kind), Some("cpu"));
    }

    #[test]
    fn a_gang_needs_as_many_devices_as_it_has_replicas() {
        let refused = enough(4, 2).unwrap_err();
        assert!(
            refused.contains("is 4, but this machine has 2 NVIDIA"),
            "{refused}"
        );
        assert_eq!(
            (enough(2, 2), enough(1, 0)),
            (Ok(DeviceChoice::Cuda), Ok(DeviceChoice::Cuda))
        );
    }

    #[test]
    fn devices_are_those_that_the_process_may_see() {
        let told = "0, GPU-8f1c, 81559, 4, 97\n1, GPU-22aa, 81559, 0, 0\n2, GPU-7b00, 24576, [N/A], [N/A]\n";
        let indices = |visible| {
            let gpus = visible_of(told, visible).into_iter();
            gpus.map(|gpu| gpu.index).collect::<Vec<_>>()
        };
        assert_eq!(indices(None), ["0", "1", "2"]);
        assert_eq!(indices(Some("2, 0")), ["2", "0"]);
        assert_eq!(indices(Some("GPU-7b,9,1")), ["2"]);
        assert_eq!(indices(Some("")), [""; 0]);
        let first = visible_of(told, None).swap_remove(0);
        assert_eq!(
            (first.memory_bytes, first.memory_used_bytes, first.utilization),
            (81_559 << 20, 4 << 20, 0.97)
        );
    }
}
