//! The running policy as its author wrote it. The proxy decides by something smaller, so it is read again when somebody
//! asks, and kept until another one is in force.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::live::Live;
use crate::policy;
use crate::policy::matrix::Matrix;

/// The one that was last asked for.
#[derive(Debug, Default)]
pub(super) struct Models(Mutex<Option<(u64, Arc<Matrix>)>>);

impl Models {
    /// Of this snapshot; nothing where it cannot be read, which it could when it was put in force.
    pub(super) fn of(&self, live: &Live) -> Option<Arc<Matrix>> {
        // Nothing panics while it is held; if it did, what is held is still whole.
        let mut kept = self.0.lock();
        if let Some((generation, matrix)) = &*kept
            && *generation == live.generation
        {
            return Some(Arc::clone(matrix));
        }
        let (model, _) = policy::model(&live.sources).ok()?;
        let matrix = Arc::new(Matrix::of(model));
        *kept = Some((live.generation, Arc::clone(&matrix)));
        Some(matrix)
    }
}
