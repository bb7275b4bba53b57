//! The tape: values, and how to walk back from them.
//!
//! An operation computes its output at once and, when the tape records, leaves a closure that
//! turns the output's gradient into its inputs'. The closure holds what it needs of the
//! forward pass and nothing else, so memory is freed as the backward pass proceeds; on a tape
//! that does not record it is dropped at once, and inference keeps no activations.

use crate::buffer::{Buffer, DType, Pool};
use crate::ops::Output;
use crate::packed::Params;
use crate::slab::{Param, Slab};
use crate::{Error, Precision, Result, Shape};
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

type Step = Box<dyn FnOnce(&mut Backward<'_>)>;

/// Where the gradient of a value is gathered during the backward pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct GradId {
    index: usize,
    /// How it may be stored: the step that takes it reads this too.
    stored: DType,
}

/// A recording of one forward pass.
pub struct Tape<'p> {
    params: Params<'p>,
    pool: Pool,
    precision: Cell<Precision>,
    records: bool,
    steps: RefCell<Vec<Step>>,
    num_grads: Cell<usize>,
}

impl<'p> Tape<'p> {
    /// A tape that can be walked back, once, with [`Tape::backward`].
    pub fn recording(params: &'p Slab, pool: &Pool) -> Tape<'p> {
        Tape { records: true, ..Tape::inference(params, pool) }
    }

    /// A tape that keeps nothing.
    pub fn inference(params: impl Into<Params<'p>>, pool: &Pool) -> Tape<'p> {
        Tape {
            params: params.into(),
            pool: pool.clone(),
            precision: Cell::new(Precision::F32),
            records: false,
            steps: RefCell::default(),
            num_grads: Cell::new(0),
        }
    }

    /// Rounds the factors of the products that are recorded from here on, there and back, and outputs that products alone
    /// read. What names its own
    /// precision ([`Var::linear_f32`]) keeps it.
    pub fn compute_in(&self, precision: Precision) {
        self.precision.set(precision);
    }

    /// A value without gradient: data, noise, masks.
    ///
    /// # Errors
    /// If the number of values is not the shape's, or an axis after the first has no extent.
    pub fn constant(&self, shape: impl Into<Shape>, values: &[f32]) -> Result<Var<'_>> {
        let shape = shape.into();
        if values.len() != shape.len() {
            let expected = format!("{} values for shape {shape:?}", shape.len());
            return Err(Error::shape("constant", expected, format!("{}", values.len())));
        }
        if shape.axes()[1..].contains(&0) {
            let expected = "extents above zero after the first axis";
            return Err(Error::shape("constant", expected, format!("{shape:?}")));
        }
        Ok(self.var(shape, self.pool.copy_of(values), None))
    }

    /// A parameter as a value of its own, for the few that no fused operation takes by name.
    pub fn param(&self, param: &Param) -> Var<'_> {
        let out = self.grad_id();
        let var = self.var(param.shape(), self.pool.copy_of(self.params.view(param)), out);
        let param = *param;
        self.record(out, move |backward, dy| {
            let grad = backward.param_grad(&param);
            for (g, d) in grad.iter_mut().zip(dy.as_f32()) {
                *g += d;
            }
        });
        var
    }

    /// Adds the gradients of `loss` (one element) with respect to every parameter to `grads`.
    ///
    /// # Errors
    /// If `loss` has more than one element or `grads` another layout.
    pub fn backward(&self, loss: &Var<'_>, grads: &mut Slab) -> Result<()> {
        let Params::Slab(params) = self.params else {
            unreachable!("a tape that records is one of a slab");
        };
        if loss.shape.len() != 1 || grads.values().len() != params.values().len() {
            let got = format!("shape {:?}, {} gradients", loss.shape, grads.values().len());
            let expected = format!("a single element, {} gradients", params.values().len());
            return Err(Error::shape("backward", expected, got));
        }
        let mut pending: Vec<Option<Buffer>> = Vec::new();
        pending.resize_with(self.num_grads.get(), || None);
        if let Some(id) = loss.grad {
            pending[id.index] = Some(self.pool.copy_of(&[1.0]));
        }
        let mut backward =
            Backward { params, param_grads: grads, pending, pool: self.pool.clone() };
        while let Some(step) = self.pop_step() {
            step(&mut backward);
        }
        Ok(())
    }

    fn pop_step(&self) -> Option<Step> {
        self.steps.borrow_mut().pop()
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What the factors of products are rounded to.
    pub(crate) fn precision(&self) -> Precision {
        self.precision.get()
    }

    pub(crate) fn params(&self) -> Params<'p> {
        self.params
    }

    pub(crate) fn take(&self, len: usize) -> Buffer {
        self.pool.take(DType::F32, len)
    }

    /// Room for what products of `precision` read.
    pub(crate) fn take_rounded(&self, precision: Precision, len: usize) -> Buffer {
        self.pool.take(precision.stored(), len)
    }

    /// A place for a gradient in f32, if this tape gathers any.
    pub(crate) fn grad_id(&self) -> Option<GradId> {
        self.grad_id_as(DType::F32)
    }

    /// A place for the gradient of an output that is stored as `stored`, whose step takes one that is stored so, too.
    pub(crate) fn grad_id_as(&self, stored: DType) -> Option<GradId> {
        let next = || self.num_grads.replace(self.num_grads.get() + 1);
        self.records.then(|| GradId { index: next(), stored })
    }

    /// A place for the gradient of an output whose only sources of gradient are `inputs`.
    pub(crate) fn grad_id_if(&self, inputs: &[&Var<'_>]) -> Option<GradId> {
        inputs.iter().any(|var| var.grad.is_some()).then(|| self.grad_id()).flatten()
    }

    pub(crate) fn var(&self, shape: Shape, value: Buffer, grad: Option<GradId>) -> Var<'_> {
        debug_assert_eq!(value.len(), shape.len());
        Var { tape: self, value: Arc::new(value), shape, grad, kept: Rc::default() }
    }

    /// A value without gradient in memory that others read too.
    pub(crate) fn shared(&self, shape: Shape, value: &Arc<Buffer>) -> Var<'_> {
        Var { tape: self, value: Arc::clone(value), shape, grad: None, kept: Rc::default() }
    }

    /// Leaves `step` to be called with the output's gradient, if anything asks for it.
    pub(crate) fn record(
        &self,
        out: Option<GradId>,
        step: impl FnOnce(&mut Backward<'_>, Buffer) + 'static,
    ) {
        let Some(out) = out else { return };
        self.steps.borrow_mut().push(Box::new(move |backward| {
            if let Some(dy) = backward.pending[out.index].take() {
                step(backward, dy);
            }
        }));
    }
}

/// A value on a tape. Cloning shares the memory.
#[derive(Clone)]
pub struct Var<'t> {
    pub(crate) tape: &'t Tape<'t>,
    pub(crate) value: Arc<Buffer>,
    pub(crate) shape: Shape,
    pub(crate) grad: Option<GradId>,
    pub(crate) kept: Rc<Kept>,
}

/// A value's other forms.
#[derive(Default)]
pub(crate) struct Kept {
    /// In f32, if it is stored rounded and was asked for.
    pub(crate) wide: OnceCell<Arc<Buffer>>,
    /// Whether a backward step may keep it in f32.
    pub(crate) as_f32: Cell<bool>,
    /// Its nearest bf16, if a backward step keeps that.
    pub(crate) as_bf16: OnceCell<Arc<Buffer>>,
}

impl<'t> Var<'t> {
    /// Extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The extents as an array, for destructuring; see [`Shape::dims`].
    ///
    /// # Errors
    /// If the number of axes is not `N`.
    pub fn dims<const N: usize>(&self, op: &'static str) -> Result<[usize; N]> {
        self.shape.dims(op)
    }

    /// The tape that the value is on.
    pub fn tape(&self) -> &'t Tape<'t> {
        self.tape
    }

    /// The values, row-major. Those that are stored in bf16 are widened at the first call.
    pub fn values(&self) -> &[f32] {
        self.floats().as_f32()
    }

    /// Memory of the values in f32.
    pub(crate) fn floats(&self) -> &Arc<Buffer> {
        if self.value.dtype() == DType::F32 {
            return &self.value;
        }
        self.kept.wide.get_or_init(|| Arc::new(self.tape.pool.widened(self.value.as_bf16())))
    }

    /// The same values as a constant: no gradient goes through it.
    pub fn detached(&self) -> Var<'t> {
        Var { grad: None, ..self.clone() }
    }

    /// The same values with other extents.
    ///
    /// # Errors
    /// If the number of elements differs.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Var<'t>> {
        let shape = shape.into();
        if shape.len() != self.shape.len() {
            let expected = format!("{} elements", self.shape.len());
            return Err(Error::shape("reshape", expected, format!("shape {shape:?}")));
        }
        Ok(Var { shape, ..self.clone() })
    }
}

impl std::fmt::Debug for Var<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Var({:?})", self.shape)
    }
}

/// What a backward step works with.
pub(crate) struct Backward<'a> {
    pub(crate) params: &'a Slab,
    param_grads: &'a mut Slab,
    pending: Vec<Option<Buffer>>,
    pub(crate) pool: Pool,
}

/// Whether a kernel overwrites its output or adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Replace,
    Add,
}

impl Backward<'_> {
    /// The gradient of a parameter, to be added to.
    pub(crate) fn param_grad(&mut self, param: &Param) -> &mut [f32] {
        self.param_grads.view_mut(param)
    }

    /// Lets `write` compute a contribution to the gradient of `id`, in place where there is
    /// one already. Does nothing for a value without gradient.
    pub(crate) fn contribute(
        &mut self,
        id: Option<GradId>,
        len: usize,
        write: impl FnOnce(&mut [f32], Write),
    ) {
        let Some(id) = id else { return };
        match &mut self.pending[id.index] {
            Some(buffer) => {
                self.pool.widen(buffer);
                write(buffer.as_f32_mut(), Write::Add);
            }
            empty => {
                let mut buffer = self.pool.take(DType::F32, len);
                write(buffer.as_f32_mut(), Write::Replace);
                *empty = Some(buffer);
            }
        }
    }

    /// The same for a product, whose sums are rounded once if the gradient may be stored so; what is added is added to
    /// f32.
    pub(crate) fn contribute_product(
        &mut self,
        id: Option<GradId>,
        len: usize,
        write: impl FnOnce(Output<'_>, Write),
    ) {
        let Some(own) = id else { return };
        match &mut self.pending[own.index] {
            empty @ None if own.stored != DType::F32 => {
                let mut buffer = self.pool.take(own.stored, len);
                write(Output::of(&mut buffer), Write::Replace);
                *empty = Some(buffer);
            }
            _ => self.contribute(id, len, |grad, how| write(Output::F32(grad), how)),
        }
    }

    /// Room for what will be given to the gradient of `id`, as that may be stored.
    pub(crate) fn take_for(&self, id: Option<GradId>, len: usize) -> Buffer {
        self.pool.take(id.map_or(DType::F32, |id| id.stored), len)
    }

    /// Hands over `grad` as a contribution to the gradient of `id`.
    pub(crate) fn give(&mut self, id: Option<GradId>, mut grad: Buffer) {
        let Some(id) = id else { return };
        match &mut self.pending[id.index] {
            Some(buffer) => {
                self.pool.widen(buffer);
                self.pool.widen(&mut grad);
                crate::kernel::elementwise::add(buffer.as_f32_mut(), grad.as_f32());
            }
            empty => {
                debug_assert!([DType::F32, id.stored].contains(&grad.dtype()), "as it is read");
                *empty = Some(grad);
            }
        }
    }
}
