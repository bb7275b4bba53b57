//! Training on many devices, on paper: what fits, what is sent, how long a step takes at least.
//!
//! Each device has all that is dense and a share of the experts (expert parallelism, GShard, arXiv
//! 2006.16668); devices with the same share, and all devices for what is dense, average their
//! gradients (data parallelism). [`ASSUMPTIONS`] are told with every plan.

mod workload;

pub use workload::Workload;

use super::memory::{F32, MOMENTS, Memory};
use serde::Serialize;

/// What a plan takes for granted, one sentence each.
pub const ASSUMPTIONS: [&str; 8] = [
    "weights, gradients and AdamW's two moments are 4 bytes a value",
    "activations and the rows sent to experts are 2; all are kept but attention matrices",
    "experts are chosen equally often; groups do not span devices",
    "all-to-all: routed rows go to the experts and back, forward and backward; own ones stay",
    "all-reduce: a ring, of dense gradients over all devices, of an expert's over its copies",
    "weights pass through memory twice and once written as gradients; AdamW reads 4, writes 3",
    "activations pass through memory once forward and twice backward",
    "a step is the longest of compute, memory and link if they overlap, else their sum",
];

/// Bytes of an activation or of a value of a row that is sent.
const ACTIVATION: u64 = 2;
/// Times that routed rows cross the link: to the experts and back, forward and backward.
const CROSSINGS: f64 = 4.0;
/// Values that pass through memory for each parameter of a step: read forward and backward, the
/// gradient written; AdamW reads parameter, gradient and moments and writes parameter and moments.
const STATE_PASSES: f64 = 10.0;
/// Times that activations pass through memory, forward once and backward twice.
const ACTIVATION_PASSES: f64 = 3.0;

/// Equal devices. Rates are of each device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// How many.
    pub devices: usize,
    /// Bytes of memory.
    pub memory: f64,
    /// Bytes a second that it sends to other devices while it receives as many.
    pub link: f64,
    /// Bytes a second between its memory and its processor.
    pub bandwidth: f64,
    /// FLOPs a second.
    pub flops: f64,
}

/// One way to lay a model over the devices.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Split {
    /// Devices that share the experts of a layer; divides E and the devices.
    pub expert_parallel: usize,
    /// Copies of each expert.
    pub data_parallel: usize,
    /// Of one device.
    pub memory: Memory,
    /// Bytes of routed rows that a device sends in a step.
    pub all_to_all: f64,
    /// Bytes of gradients that a device sends in a step.
    pub all_reduce: f64,
    /// Seconds of the arithmetic.
    pub compute_seconds: f64,
    /// Seconds of the traffic with the device's memory.
    pub memory_seconds: f64,
    /// Seconds of all that is sent.
    pub link_seconds: f64,
}

/// All splits of a model over a cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// By expert-parallel degree.
    pub splits: Vec<Split>,
    /// The one that is recommended, as an index into `splits`: of those that fit, the shortest
    /// step; of equal ones, the shortest in turn. None if nothing fits.
    pub best: Option<usize>,
}

impl Split {
    fn of(work: &Workload, cluster: &Cluster, expert_parallel: usize) -> Split {
        let data_parallel = cluster.devices / expert_parallel;
        let share = expert_parallel as u64;
        let params = work.dense_params + work.expert_params / share;
        let weights = F32 * params;
        let away = 1.0 - 1.0 / expert_parallel as f64;
        let all_to_all = CROSSINGS * away * (ACTIVATION * work.routed_values) as f64;
        let dense = ring(cluster.devices, F32 * work.dense_params);
        let all_reduce = dense + ring(data_parallel, F32 * work.expert_params / share);
        let traffic = STATE_PASSES * weights as f64
            + ACTIVATION_PASSES * (ACTIVATION * work.moved_values) as f64;
        Split {
            expert_parallel,
            data_parallel,
            memory: Memory {
                weights,
                gradients: weights,
                moments: MOMENTS * weights,
                activations: ACTIVATION * work.activations,
            },
            all_to_all,
            all_reduce,
            compute_seconds: work.flops / cluster.flops,
            memory_seconds: traffic / cluster.bandwidth,
            link_seconds: (all_to_all + all_reduce) / cluster.link,
        }
    }

    /// The longest of the three: all overlap.
    pub fn step_seconds(&self) -> f64 {
        self.compute_seconds.max(self.memory_seconds).max(self.link_seconds)
    }

    /// Their sum: nothing overlaps.
    pub fn seconds_in_turn(&self) -> f64 {
        self.compute_seconds + self.memory_seconds + self.link_seconds
    }

    /// What the step waits for.
    pub fn bound(&self) -> &'static str {
        let step = self.step_seconds();
        if step == self.compute_seconds {
            "compute"
        } else if step == self.memory_seconds {
            "memory"
        } else {
            "link"
        }
    }

    /// Whether a device has room for it.
    pub fn fits(&self, cluster: &Cluster) -> bool {
        self.memory.total() as f64 <= cluster.memory
    }
}

/// Bytes that each of `n` devices sends to average `bytes` of gradients in a ring.
fn ring(n: usize, bytes: u64) -> f64 {
    2.0 * (n as f64 - 1.0) / n as f64 * bytes as f64
}

/// Every split of the work of one device's images over the cluster.
pub fn plan(work: &Workload, cluster: &Cluster) -> Plan {
    let degrees = (1..=work.num_experts.min(cluster.devices)).filter(|degree| {
        work.num_experts.is_multiple_of(*degree) && cluster.devices.is_multiple_of(*degree)
    });
    let splits: Vec<Split> = degrees.map(|degree| Split::of(work, cluster, degree)).collect();
    let time = |split: &Split| (split.step_seconds(), split.seconds_in_turn());
    let fitting = splits.iter().enumerate().filter(|(_, split)| split.fits(cluster));
    let best = fitting
        .min_by(|(_, a), (_, b)| {
            let ((a, a_sum), (b, b_sum)) = (time(a), time(b));
            a.total_cmp(&b).then(a_sum.total_cmp(&b_sum))
        })
        .map(|(index, _)| index);
    Plan { splits, best }
}

#[cfg(test)]
mod tests;
