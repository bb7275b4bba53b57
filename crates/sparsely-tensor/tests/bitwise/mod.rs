//! The same bits from any number of threads, and for a row alone as among others.

mod kept;
mod language;
mod packed;
mod rows;
mod threads;

use crate::draw::uniform;
use sparsely_tensor::{Layout, Param, Precision, Shape, Slab};
use std::sync::Arc;

/// Products of either precision keep the promises.
const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// Parameters by name, drawn.
struct Model {
    params: Slab,
}

impl Model {
    fn drawn(shapes: &[(&str, Shape)]) -> Model {
        let mut layout = Layout::default();
        for (name, shape) in shapes {
            layout.add(*name, *shape, 1.0);
        }
        let mut params = Slab::zeros(Arc::new(layout));
        for view in params.layout().clone().views() {
            let values = uniform(view.param.range().len(), view.param.index() as u64);
            let own = params.view_mut(&view.param);
            own.iter_mut().zip(values).for_each(|(p, v)| *p = 0.1 * v);
        }
        Model { params }
    }

    fn named(&self, name: &str) -> Param {
        self.params.layout().find(name).unwrap().param
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}
