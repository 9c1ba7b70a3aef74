//! The end of values that is not to take place where they are let go.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// Who sees to the end of values.
pub trait Undertaker<T> {
    /// Has it dropped, here or elsewhere.
    fn bury(&self, value: T);
}

/// A value that is handed over instead of being dropped.
pub struct HandedOver<T, U: Undertaker<T>> {
    value: ManuallyDrop<T>,
    to: U,
}

impl<T, U: Undertaker<T>> HandedOver<T, U> {
    /// It goes there in the end.
    pub fn new(value: T, to: U) -> Self {
        Self { value: ManuallyDrop::new(value), to }
    }

    /// Where it goes in the end.
    pub fn to(&self) -> &U {
        &self.to
    }
}

impl<T, U: Undertaker<T>> Deref for HandedOver<T, U> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T, U: Undertaker<T>> DerefMut for HandedOver<T, U> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T, U: Undertaker<T>> Drop for HandedOver<T, U> {
    fn drop(&mut self) {
        // SAFETY: this is the only place that takes it, and nothing sees it afterwards.
        let value = unsafe { ManuallyDrop::take(&mut self.value) };
        self.to.bury(value);
    }
}

impl<T: fmt::Debug, U: Undertaker<T>> fmt::Debug for HandedOver<T, U> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}
