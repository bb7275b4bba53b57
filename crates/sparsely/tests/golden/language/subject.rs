//! Our layer, given their parameters and inputs; inputs are parameters too, for their gradients.

use super::case::Case;
use super::names::Ours;
use sparsely::checkpoint::Array;
use sparsely::nn::{Init, Initializer};
use sparsely_tensor::{Param, Slab};

/// Parameters with their names, and the inputs among them.
pub(crate) struct Subject {
    pub(crate) params: Slab,
    pub(crate) x: Param,
    pub(crate) memory: Option<Param>,
}

/// Lays out a layer and its inputs.
pub(crate) fn lay_out<L>(
    case: &Case,
    build: impl FnOnce(&mut Initializer) -> L,
) -> Result<(L, Subject), String> {
    let mut init = Initializer::default();
    let layer = build(&mut init);
    let (x, memory) = (case.needed("x")?, case.array("memory"));
    let mut input = |name: &str, array: &Array| {
        let &[b, l, d] = &*array.shape else { panic!("three axes") };
        init.vector(name, [b, l, d], Init::Constant(0.0))
    };
    let x_param = input("input.x", &x);
    let memory_param = memory.as_ref().map(|memory| input("input.memory", memory));
    let mut params = init.finish(0);
    params.view_mut(&x_param).copy_from_slice(&x.values);
    if let (Some(param), Some(memory)) = (&memory_param, &memory) {
        params.view_mut(param).copy_from_slice(&memory.values);
    }
    Ok((layer, Subject { params, x: x_param, memory: memory_param }))
}

impl Subject {
    /// Their values; every parameter of ours has to be among them.
    pub(crate) fn fill(&mut self, ours: &Ours) -> Result<(), String> {
        fill(&mut self.params, ours, &["input.x", "input.memory"])
    }
}

/// Writes values by name; all parameters but `others` have to be named.
pub(crate) fn fill(params: &mut Slab, ours: &Ours, others: &[&str]) -> Result<(), String> {
    let layout = params.layout().clone();
    if let Some(name) = ours.keys().find(|name| layout.find(name).is_none()) {
        return Err(format!("we have no `{name}`"));
    }
    for view in layout.views().iter().filter(|view| !others.contains(&view.name.as_str())) {
        let values = ours.get(&view.name).ok_or_else(|| format!("they have no `{}`", view.name))?;
        let own = params.view_mut(&view.param);
        if own.len() != values.len() {
            return Err(format!("`{}` of {} values, not {}", view.name, values.len(), own.len()));
        }
        own.copy_from_slice(values);
    }
    Ok(())
}
