//! Pieces of work beside one another: what waits for a core holds up nobody else.

use crate::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, PartialEq)]
enum State {
    Waiting,
    Begun,
    Done,
}

/// Where all workers look for what to do next.
struct Board {
    states: Mutex<Vec<State>>,
    changed: Condvar,
}

/// Does the jobs `0..after.len()` beside one another, each once the one that it comes `after` is
/// done, the first of those first. The threads of the pool that calls are shared out among them.
/// False if a job said that it was stopped. After a failure or a stop no job begins, and `stop`
/// asks the others to end.
///
/// # Errors
/// The first of the jobs.
pub(super) fn side_by_side(
    after: &[Option<usize>],
    stop: &AtomicBool,
    job: impl Fn(usize) -> Result<bool> + Sync,
) -> Result<bool> {
    let threads = rayon::current_num_threads();
    let workers = threads.min(after.len()).max(1);
    let pools: Vec<_> = (0..workers)
        .map(|worker| {
            // The first ones take what does not divide.
            let own = threads / workers + usize::from(worker < threads % workers);
            rayon::ThreadPoolBuilder::new().num_threads(own).build()
        })
        .collect::<Result<_, _>>()
        .map_err(|e| Error::config(format!("cannot start threads: {e}")))?;
    let board =
        Board { states: Mutex::new(vec![State::Waiting; after.len()]), changed: Condvar::new() };
    let work = || -> Result<()> {
        while let Some(index) = board.take(after, stop) {
            let mut turn = Turn { board: &board, stop, index, is_done: false };
            turn.is_done = job(index)?;
        }
        Ok(())
    };
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let workers: Vec<_> = pools.iter().map(|pool| scope.spawn(|| pool.install(work))).collect();
        let ends = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ends.collect()
    });
    outcomes.into_iter().collect::<Result<()>>()?;
    Ok(board.lock().iter().all(|state| *state == State::Done))
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first job that can begin, as soon as there is one; none if no job is left, or it is
    /// asked to stop.
    fn take(&self, after: &[Option<usize>], stop: &AtomicBool) -> Option<usize> {
        let mut states = self.lock();
        loop {
            if stop.load(Ordering::Relaxed) || !states.contains(&State::Waiting) {
                return None;
            }
            let can_begin = |index: &usize| {
                states[*index] == State::Waiting
                    && after[*index].is_none_or(|before| states[before] == State::Done)
            };
            if let Some(index) = (0..states.len()).find(can_begin) {
                states[index] = State::Begun;
                return Some(index);
            }
            states = self.changed.wait(states).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A job that is being done; ends with its scope, also by a failure or a panic.
struct Turn<'a> {
    board: &'a Board,
    stop: &'a AtomicBool,
    index: usize,
    is_done: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut states = self.board.lock();
        if self.is_done {
            states[self.index] = State::Done;
        } else {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.board.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::time::Duration;

    fn on(threads: usize, work: impl FnOnce() + Send) {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work);
    }

    #[test]
    fn jobs_share_the_threads_and_wait_for_those_before_them() {
        on(5, || {
            let stop = AtomicBool::new(false);
            let done = Mutex::new(Vec::new());
            let both = Barrier::new(2);
            // The first two must run at the same time.
            let is_done = side_by_side(&[None, None, Some(1), Some(2)], &stop, |index| {
                assert!((1..=2).contains(&rayon::current_num_threads()));
                if index < 2 {
                    both.wait();
                }
                if index == 1 {
                    std::thread::sleep(Duration::from_millis(20));
                }
                done.lock().unwrap().push(index);
                Ok(true)
            });
            assert!(is_done.unwrap());
            assert_eq!(*done.lock().unwrap(), [0, 1, 2, 3]);
        });
    }

    #[test]
    fn a_failure_stops_the_others_and_is_told() {
        on(2, || {
            let stop = AtomicBool::new(false);
            let begun = Mutex::new(0);
            let outcome = side_by_side(&[None, None, None, Some(0)], &stop, |index| {
                *begun.lock().unwrap() += 1;
                if index == 0 {
                    return Err(Error::config("broken".to_string()));
                }
                while !stop.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                Ok(false)
            });
            assert!(outcome.unwrap_err().to_string().contains("broken"));
            assert!(*begun.lock().unwrap() <= 2);
        });
    }

    #[test]
    fn a_stop_begins_nothing_more() {
        on(1, || {
            let stop = AtomicBool::new(false);
            let begun = Mutex::new(Vec::new());
            let outcome = side_by_side(&[None, None], &stop, |index| {
                begun.lock().unwrap().push(index);
                stop.store(true, Ordering::Relaxed);
                Ok(true)
            });
            assert!(!outcome.unwrap());
            assert_eq!(*begun.lock().unwrap(), [0]);
            assert!(side_by_side(&[], &AtomicBool::new(false), |_| Ok(true)).unwrap());
        });
    }
}
