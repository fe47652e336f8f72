//! What the first painting makes, in the window's OpenGL context, and later ones use.

use std::sync::{Arc, Mutex, PoisonError};

/// Clones share what was made.
pub struct MadeOnce<T> {
    state: Arc<Mutex<State<T>>>,
}

enum State<T> {
    NotYet,
    Made(T),
    /// It would fail again each frame.
    Failed,
}

impl<T> Default for MadeOnce<T> {
    fn default() -> Self {
        Self { state: Arc::new(Mutex::new(State::NotYet)) }
    }
}

impl<T> Clone for MadeOnce<T> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

impl<T> MadeOnce<T> {
    /// Calls `apply` with what `make` made, now or before. A failure is told once, to `failed`.
    pub fn with(
        &self,
        make: impl FnOnce() -> Result<T, String>,
        failed: impl FnOnce(&str),
        apply: impl FnOnce(&mut T),
    ) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::NotYet = *state {
            *state = match make() {
                Ok(made) => State::Made(made),
                Err(reason) => {
                    failed(&reason);
                    State::Failed
                }
            };
        }
        if let State::Made(made) = &mut *state {
            apply(made);
        }
    }

    /// Takes it out, to be freed.
    pub fn take(&self) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::NotYet) {
            State::Made(made) => Some(made),
            State::NotYet | State::Failed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_a_failure_is_told_once() {
        let (one, mut sum, mut made) = (MadeOnce::default(), 0, 0);
        for _ in 0..3 {
            let make = || {
                made += 1;
                Ok(7)
            };
            one.clone().with(make, |reason| panic!("{reason}"), |seven| sum += *seven);
        }
        assert_eq!((made, sum, one.take(), one.take()), (1, 21, Some(7), None));
        let (broken, mut told) = (MadeOnce::<u8>::default(), Vec::new());
        for _ in 0..3 {
            let failed = |reason: &str| told.push(reason.to_owned());
            broken.with(|| Err("no shader".to_owned()), failed, |_| panic!("it was not made"));
        }
        assert_eq!(told, ["no shader"]);
    }
}
