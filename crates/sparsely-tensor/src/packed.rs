//! Parameters for inference: each kernel is packed for products when it is first used, and kept so.
//!
//! Where the values lie in a mapped file, a kernel's pages are read at its first use, held against their
//! checksum, packed, and released. So an expert that nobody asks is never in memory, and one that is asked is
//! there once.

use crate::kernel::gemm::{MatRef, Right, mat, pack, packed_len};
use crate::mapping::Mapping;
use crate::slab::{Layout, Param, Slab};
use crate::{Error, Precision, Result};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Parameters that are used and not changed.
pub struct PackedSlab {
    layout: Arc<Layout>,
    source: Source,
    /// By parameter: one kernel, or those of a stack.
    kernels: Vec<Box<[OnceLock<Kernel>]>>,
}

/// Where the values of a parameter lie in a file of little-endian f32, and the CRC-32 of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The first byte.
    pub offset: usize,
    /// One for the whole, or one for each kernel of a stack.
    pub checksums: Vec<u32>,
}

/// How much of the parameters is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Kernels of stacks (experts' layers) that were used.
    pub stacked_used: usize,
    /// Kernels of stacks.
    pub stacked: usize,
    /// Bytes of all packed kernels.
    pub packed_bytes: usize,
    /// Bytes of all parameters.
    pub bytes: usize,
}

enum Source {
    Memory(Slab),
    File { mapping: Mapping, places: Vec<Place> },
}

/// A kernel that was used: its packed form, if it has elements.
struct Kernel {
    panels: Option<Vec<Page>>,
    precision: Precision,
}

/// The unit of allocation: kernels do not share pages.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);

impl PackedSlab {
    /// Of parameters that are in memory already.
    pub fn new(slab: Slab) -> PackedSlab {
        let layout = slab.layout().clone();
        PackedSlab { kernels: unused(&layout), layout, source: Source::Memory(slab) }
    }

    /// Of parameters in a file, with a place for each in the layout's order. All that is not a stack of
    /// kernels with a checksum for each is held against its checksum now.
    ///
    /// # Errors
    /// If a place is not within the file or its values are not those of the checksum.
    pub fn map(layout: Arc<Layout>, mapping: Mapping, places: Vec<Place>) -> Result<PackedSlab> {
        let (views, len) = (layout.views(), mapping.bytes().len());
        let fits = |(view, place): (&crate::View, &Place)| {
            let end = place.offset.checked_add(4 * view.param.shape().len());
            place.offset.is_multiple_of(4) && end.is_some_and(|end| end <= len)
        };
        if views.len() != places.len() || !views.iter().zip(&places).all(fits) {
            let expected = format!("places of {} parameters within {len} bytes", views.len());
            return Err(Error::shape("PackedSlab::map", expected, format!("{places:?}")));
        }
        let source = Source::File { mapping, places };
        let slab = PackedSlab { kernels: unused(&layout), layout, source };
        for view in slab.layout.views() {
            if !slab.is_checked_late(&view.param) {
                slab.check(&view.param, None)?;
                slab.release(slab.file_range(&view.param, None));
            }
        }
        Ok(slab)
    }

    /// The layout.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// A copy of all values, to be looked at or changed. All of it is in memory then.
    ///
    /// # Errors
    /// If values are not those of their checksum.
    pub fn to_slab(&self) -> Result<Slab> {
        if let Source::Memory(slab) = &self.source {
            return Ok(slab.clone());
        }
        let mut slab = Slab::zeros(self.layout.clone());
        for view in self.layout.views() {
            let parts = self.kernels[view.param.index()].len();
            if self.is_checked_late(&view.param) {
                (0..parts).try_for_each(|part| self.check(&view.param, Some(part)))?;
            }
            slab.view_mut(&view.param).copy_from_slice(self.values(&view.param));
            self.release(self.file_range(&view.param, None));
        }
        Ok(slab)
    }

    /// How much of it is in use.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage { bytes: 4 * self.layout.num_params(), ..Usage::default() };
        for (view, kernels) in self.layout.views().iter().zip(&self.kernels) {
            let used = || kernels.iter().filter_map(OnceLock::get);
            let panels = used().filter_map(|kernel| kernel.panels.as_ref());
            usage.packed_bytes += panels.map(|pages| size_of_val(&pages[..])).sum::<usize>();
            if view.stacked {
                usage.stacked += kernels.len();
                usage.stacked_used += used().count();
            }
        }
        usage
    }

    /// The values of a parameter that is no stack of kernels.
    pub(crate) fn view(&self, param: &Param) -> &[f32] {
        assert!(!self.is_checked_late(param), "a stack is read kernel by kernel");
        self.values(param)
    }

    /// The kernel `[I, O]`, or kernel `index` of a stack `[E, I, O]`, as products take it best.
    /// Packed for the precision that asks first; to another, the values as they lie.
    pub(crate) fn kernel(
        &self,
        param: &Param,
        index: usize,
        precision: Precision,
    ) -> Result<Right<'_>> {
        let right = Right::new(kernel_of(self.values(param), param, index), precision);
        let cell = &self.kernels[param.index()][index];
        let kernel = match cell.get() {
            Some(kernel) => kernel,
            None => {
                let kernel = self.first_use(param, index, &right)?;
                // Another thread may have been quicker, with the same.
                cell.get_or_init(|| kernel)
            }
        };
        if kernel.precision != precision {
            return Ok(right);
        }
        let panels = kernel.panels.as_ref().map(|pages| {
            let len = packed_len(precision, right.extents()).unwrap_or(0);
            &bytemuck::cast_slice(pages)[..len]
        });
        Ok(right.with_panels(panels))
    }

    fn first_use(&self, param: &Param, index: usize, right: &Right<'_>) -> Result<Kernel> {
        let precision = right.precision();
        let part = self.layout.views()[param.index()].stacked.then_some(index);
        if self.is_checked_late(param) {
            self.check(param, part)?;
        }
        let Some(len) = packed_len(precision, right.extents()) else {
            return Ok(Kernel { panels: None, precision });
        };
        let mut pages: Vec<Page> = bytemuck::allocation::zeroed_vec((4 * len).div_ceil(4096));
        pack(right, &mut bytemuck::cast_slice_mut(&mut pages)[..len]);
        self.release(self.file_range(param, part));
        Ok(Kernel { panels: Some(pages), precision })
    }

    fn values(&self, param: &Param) -> &[f32] {
        match &self.source {
            Source::Memory(slab) => slab.view(param),
            Source::File { mapping, .. } => {
                bytemuck::cast_slice(&mapping.bytes()[self.file_range(param, None)])
            }
        }
    }

    /// Whether the parameter is checked kernel by kernel, when they are used.
    fn is_checked_late(&self, param: &Param) -> bool {
        let Source::File { places, .. } = &self.source else { return false };
        self.layout.views()[param.index()].stacked && places[param.index()].checksums.len() > 1
    }

    /// Holds a part (or all that has one checksum) against its checksum.
    fn check(&self, param: &Param, part: Option<usize>) -> Result<()> {
        let Source::File { mapping, places } = &self.source else { return Ok(()) };
        let checksums = &places[param.index()].checksums;
        let parts = match part {
            Some(part) => part..part + 1,
            None => 0..checksums.len(),
        };
        let len = 4 * param.shape().len() / checksums.len().max(1);
        let start = places[param.index()].offset;
        for part in parts {
            let range = start + part * len..start + (part + 1) * len;
            let got = crc32fast::hash(&mapping.bytes()[range]);
            if got != checksums[part] {
                let name = &self.layout.views()[param.index()].name;
                return Err(Error::Damaged {
                    path: mapping.path().to_path_buf(),
                    what: match checksums.len() {
                        1 => format!("`{name}`"),
                        _ => format!("part {part} of `{name}`"),
                    },
                    expected: checksums[part],
                    got,
                });
            }
        }
        Ok(())
    }

    /// Bytes of the file that a parameter, or a kernel of a stack, takes.
    fn file_range(&self, param: &Param, kernel: Option<usize>) -> Range<usize> {
        let Source::File { places, .. } = &self.source else { return 0..0 };
        let (start, len) = (places[param.index()].offset, 4 * param.shape().len());
        match kernel {
            None => start..start + len,
            Some(kernel) => {
                let len = len / self.kernels[param.index()].len();
                start + kernel * len..start + (kernel + 1) * len
            }
        }
    }

    fn release(&self, range: Range<usize>) {
        if let Source::File { mapping, .. } = &self.source {
            mapping.release(range);
        }
    }
}

fn unused(layout: &Layout) -> Vec<Box<[OnceLock<Kernel>]>> {
    let kernels = |view: &crate::View| {
        let count = if view.stacked { view.param.shape().axes()[0] } else { 1 };
        (0..count).map(|_| OnceLock::new()).collect()
    };
    layout.views().iter().map(kernels).collect()
}

/// `[I, O]`, or kernel `index` of `[E, I, O]`, of a parameter's values.
pub(crate) fn kernel_of<'a>(values: &'a [f32], param: &Param, index: usize) -> MatRef<'a> {
    let shape = param.shape();
    let [.., i, o] = *shape.axes() else { unreachable!("a kernel has two axes, a stack three") };
    mat(&values[index * i * o..], i, o)
}

/// What a tape computes with.
#[derive(Clone, Copy)]
pub enum Params<'p> {
    /// Values that may be learned.
    Slab(&'p Slab),
    /// For inference.
    Packed(&'p PackedSlab),
}

impl<'p> From<&'p Slab> for Params<'p> {
    fn from(slab: &'p Slab) -> Params<'p> {
        Params::Slab(slab)
    }
}

impl<'p> From<&'p PackedSlab> for Params<'p> {
    fn from(slab: &'p PackedSlab) -> Params<'p> {
        Params::Packed(slab)
    }
}

impl<'p> Params<'p> {
    pub(crate) fn view(self, param: &Param) -> &'p [f32] {
        match self {
            Params::Slab(slab) => slab.view(param),
            Params::Packed(slab) => slab.view(param),
        }
    }

    /// See [`PackedSlab::kernel`]; of a slab, the values as they lie.
    pub(crate) fn kernel(
        self,
        param: &Param,
        index: usize,
        precision: Precision,
    ) -> Result<Right<'p>> {
        match self {
            Params::Slab(slab) => {
                Ok(Right::new(kernel_of(slab.view(param), param, index), precision))
            }
            Params::Packed(slab) => slab.kernel(param, index, precision),
        }
    }
}
