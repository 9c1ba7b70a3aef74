//! Values that are not to be dropped by the task that releases them: their drop may block.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// Where released values are dropped.
pub trait Disposer<T> {
    /// Drops it, here or on another thread.
    fn dispose(&self, value: T);
}

/// A value that is handed over on drop.
pub struct HandedOver<T, U: Disposer<T>> {
    value: ManuallyDrop<T>,
    to: U,
}

impl<T, U: Disposer<T>> HandedOver<T, U> {
    /// A value that `to` disposes of.
    pub fn new(value: T, to: U) -> Self {
        Self { value: ManuallyDrop::new(value), to }
    }

    /// What disposes of it.
    pub fn to(&self) -> &U {
        &self.to
    }
}

impl<T, U: Disposer<T>> Deref for HandedOver<T, U> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T, U: Disposer<T>> DerefMut for HandedOver<T, U> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T, U: Disposer<T>> Drop for HandedOver<T, U> {
    fn drop(&mut self) {
        // SAFETY: this is the only place that takes it, and nothing sees it afterwards.
        let value = unsafe { ManuallyDrop::take(&mut self.value) };
        self.to.dispose(value);
    }
}

impl<T: fmt::Debug, U: Disposer<T>> fmt::Debug for HandedOver<T, U> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}
