//! Stubs: interfaces of other hosts that this one does not offer link, and trap when they are called.

use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem};
use wasmtime::component::{Linker, LinkerInstance, ResourceType};

use crate::sandbox::Guest;

/// Packages whose interfaces may be missing: their components often import more than they call.
const OTHERS: [&str; 3] = ["fermyon:", "spin:", "wasi:otel/"];
/// Interfaces of those packages that this host has.
const OFFERED: [&str; 6] = [
    "fermyon:spin/key-value@2.",
    "fermyon:spin/variables@2.",
    "fermyon:spin/redis@2.",
    "spin:key-value/key-value@3.",
    "spin:redis/redis@3.",
    "spin:variables/variables@3.",
];

/// A resource that nothing makes.
struct Nothing;

/// Adds a stub for every interface of others that this host does not have, and names those with functions.
pub fn add_stubs(
    linker: &mut Linker<Guest>,
    component: &wasmtime::component::Component,
) -> wasmtime::Result<Vec<String>> {
    let begins = |name: &str, with: &[&str]| with.iter().any(|start| name.starts_with(start));
    let mut stubs = Vec::new();
    for (name, item) in component.component_type().imports(component.engine()) {
        if begins(name, &OTHERS)
            && !begins(name, &OFFERED)
            && let ComponentItem::ComponentInstance(interface) = item.ty
        {
            let traps = stub(&mut linker.instance(name)?, name, &interface, component.engine())?;
            stubs.extend(traps.then(|| name.to_owned()));
        }
    }
    Ok(stubs)
}

/// Whether the interface has anything that could be called.
fn stub(
    linker: &mut LinkerInstance<'_, Guest>,
    interface: &str,
    items: &ComponentInstance,
    engine: &wasmtime::Engine,
) -> wasmtime::Result<bool> {
    let mut traps = false;
    for (name, item) in items.exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(function) => {
                trap(linker, interface, name, &function)?;
                traps = true;
            }
            ComponentItem::Resource(_) => {
                linker.resource(name, ResourceType::host::<Nothing>(), |_, _| Ok(()))?;
            }
            _ => {}
        }
    }
    Ok(traps)
}

fn trap(
    linker: &mut LinkerInstance<'_, Guest>,
    interface: &str,
    name: &str,
    function: &ComponentFunc,
) -> wasmtime::Result<()> {
    let reason = format!("called `{name}` of `{interface}`, which this host does not offer");
    if function.async_() {
        return linker.func_new_concurrent(name, move |_, _, _, _| {
            let error = wasmtime::Error::msg(reason.clone());
            Box::pin(async move { Err(error) })
        });
    }
    linker.func_new(name, move |_, _, _, _| Err(wasmtime::Error::msg(reason.clone())))
}
