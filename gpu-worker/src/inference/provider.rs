//! Execution providers: what of ONNX Runtime computes a model, in the order in which it is preferred.

use clap::ValueEnum;
use ort::ep::{CUDA, ExecutionProvider as _, ExecutionProviderDispatch, TensorRT};
use ort::session::builder::SessionBuilder;

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Provider {
    /// The processor.
    Cpu,
    /// An NVIDIA device.
    Cuda,
    /// An NVIDIA device, by engines that TensorRT builds of the model when it is loaded.
    Tensorrt,
}

/// Where the instances of a model's group are to be, in Triton's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InstanceKind {
    /// By what the worker prefers.
    #[default]
    Auto,
    /// On the processor.
    Cpu,
    /// On a device.
    Gpu,
}

/// How sessions compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// ONNX Runtime's threads inside one request.
    pub threads: usize,
    /// The first that is preferred; the next takes what one before it cannot compute, and the CPU what is left.
    pub providers: Vec<Provider>,
}

impl Provider {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
        }
    }

    /// Whether the library at hand has it; whether a device is there only a session tells.
    fn is_in_library(self) -> bool {
        let told = match self {
            Self::Cpu => Ok(true),
            Self::Cuda => CUDA::is_available(),
            Self::Tensorrt => TensorRT::is_available(),
        };
        told.unwrap_or(false)
    }

    fn lacking(self) -> String {
        let all = [Self::Cpu, Self::Cuda, Self::Tensorrt];
        let there: Vec<Self> = all.into_iter().filter(|one| one.is_in_library()).collect();
        let (name, there) = (self.name(), named(&there));
        format!("execution provider `{name}` is not in the ONNX Runtime library at hand, which has {there}")
    }

    /// None of the CPU's, which every session has after all others.
    fn dispatch(self) -> Option<ExecutionProviderDispatch> {
        match self {
            Self::Cpu => None,
            Self::Cuda => Some(CUDA::default().build()),
            Self::Tensorrt => Some(TensorRT::default().build()),
        }
    }
}

impl InstanceKind {
    /// The kind of a word of Triton's.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "KIND_AUTO" => Some(Self::Auto),
            "KIND_CPU" => Some(Self::Cpu),
            "KIND_GPU" => Some(Self::Gpu),
            _ => None,
        }
    }
}

impl Execution {
    /// On the processor alone.
    pub fn cpu(threads: usize) -> Self {
        Self {
            threads,
            providers: vec![Provider::Cpu],
        }
    }

    /// The same for instances of a kind.
    pub fn of_kind(&self, kind: InstanceKind) -> Result<Self, String> {
        let wanted = |provider: &Provider| match kind {
            InstanceKind::Auto => true,
            InstanceKind::Cpu => *provider == Provider::Cpu,
            InstanceKind::Gpu => *provider != Provider::Cpu,
        };
        match kind {
            InstanceKind::Cpu => Ok(Self::cpu(self.threads)),
            _ if self.providers.iter().any(wanted) => Ok(Self {
                threads: self.threads,
                providers: self.providers.iter().copied().filter(wanted).collect(),
            }),
            _ => Err(format!(
                "has instances of `KIND_GPU`, and the execution providers of this worker are {}",
                named(&self.providers)
            )),
        }
    }

    /// Gives a session its providers. What is missing is an error, or left out with a warning where the CPU may take its place.
    pub fn register(&self, builder: &mut SessionBuilder) -> Result<(), String> {
        let may_lack = self.providers.contains(&Provider::Cpu);
        // What comes after the CPU would be left nothing.
        let before = self
            .providers
            .iter()
            .map_while(|one| Some((one, one.dispatch()?)));
        for (one, dispatch) in before {
            let lacking = match one.is_in_library() {
                false => one.lacking(),
                true => match dispatch.register(builder) {
                    Ok(()) => continue,
                    Err(error) => format!("execution provider `{}` cannot be used: {error}", one.name()),
                },
            };
            if !may_lack {
                return Err(format!("cannot be computed: {lacking}"));
            }
            tracing::warn!("{lacking}");
        }
        Ok(())
    }
}

fn named(providers: &[Provider]) -> String {
    let names: Vec<String> = providers
        .iter()
        .map(|provider| format!("`{}`", provider.name()))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_takes_what_it_may_of_the_workers_providers() {
        let providers = vec![Provider::Tensorrt, Provider::Cuda, Provider::Cpu];
        let mixed = Execution {
            threads: 3,
            providers: providers.clone(),
        };
        let of = |kind| mixed.of_kind(kind).map(|execution| execution.providers);
        assert_eq!(of(InstanceKind::Auto), Ok(providers));
        assert_eq!(of(InstanceKind::Cpu), Ok(vec![Provider::Cpu]));
        assert_eq!(
            of(InstanceKind::Gpu),
            Ok(vec![Provider::Tensorrt, Provider::Cuda])
        );
        let refused = Execution::cpu(1).of_kind(InstanceKind::Gpu).unwrap_err();
        assert!(
            refused.ends_with("the execution providers of this worker are `cpu`"),
            "{refused}"
        );
        assert_eq!(InstanceKind::of("KIND_GPU"), Some(InstanceKind::Gpu));
        assert_eq!(InstanceKind::of("KIND_MODEL"), None);
    }
}
