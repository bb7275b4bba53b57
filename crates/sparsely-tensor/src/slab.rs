//! All parameters in one contiguous array with named, shaped views.
//!
//! The optimiser is then one pass, a checkpoint one file, an expert one range of a stacked
//! tensor. Gradients and moments are slabs of the same [`Layout`].

use crate::Shape;
use std::ops::Range;
use std::sync::Arc;

/// A parameter: where it lies in every slab of its layout, and its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    index: usize,
    offset: usize,
    shape: Shape,
}

impl Param {
    /// Extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Position in [`Layout::views`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// Elements of a slab that belong to the parameter.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.shape.len()
    }
}

/// Name and training attributes of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Path-like name, unique in its layout: `blocks/3/moe/experts/w_in`.
    pub name: String,
    /// Where it lies.
    pub param: Param,
    /// Decoupled weight decay, as a factor of the optimiser's rate of decay.
    pub decay: f32,
    /// Whether the optimiser leaves it alone.
    pub frozen: bool,
    /// Whether it is a stack of kernels `[E, I, O]`, of which a call may need only some.
    pub stacked: bool,
}

/// Names, shapes and places of all parameters of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    views: Vec<View>,
    len: usize,
}

impl Layout {
    /// Adds a parameter. Each starts on a cache line.
    ///
    /// # Panics
    /// If the name is taken: a bug of the model.
    pub fn add(&mut self, name: impl Into<String>, shape: impl Into<Shape>, decay: f32) -> Param {
        let (name, shape) = (name.into(), shape.into());
        assert!(self.find(&name).is_none(), "parameter `{name}` exists twice");
        let param = Param { index: self.views.len(), offset: self.len, shape };
        self.len = (self.len + shape.len()).next_multiple_of(16);
        self.views.push(View { name, param, decay, frozen: false, stacked: false });
        param
    }

    /// All parameters in the order of their offsets.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// All parameters, to change their attributes.
    pub fn views_mut(&mut self) -> &mut [View] {
        &mut self.views
    }

    /// The parameter of that name.
    pub fn find(&self, name: &str) -> Option<&View> {
        self.views.iter().find(|view| view.name == name)
    }

    /// Elements of a slab, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// Number of parameters, padding not counted.
    pub fn num_params(&self) -> usize {
        self.views.iter().map(|view| view.param.shape.len()).sum()
    }
}

/// One value for each element of a [`Layout`]: parameters, gradients or moments.
#[derive(Clone, Debug)]
pub struct Slab {
    layout: Arc<Layout>,
    values: Vec<f32>,
}

impl Slab {
    /// All zeros.
    pub fn zeros(layout: Arc<Layout>) -> Slab {
        let values = vec![0.0; layout.len()];
        #[cfg(target_os = "linux")]
        crate::buffer::advise_huge_pages(&values);
        Slab { layout, values }
    }

    /// The layout.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Values of one parameter.
    pub fn view(&self, param: &Param) -> &[f32] {
        &self.values[param.range()]
    }

    /// Values of one parameter, to be written.
    pub fn view_mut(&mut self, param: &Param) -> &mut [f32] {
        &mut self.values[param.range()]
    }

    /// All values, padding included (padding is zero).
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, padding included, to be written.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}
