//! Notices to a service manager (sd_notify(3)). Where none listens, nothing is missing.

/// Requests are served from now on.
pub fn ready() {
    #[cfg(target_os = "linux")]
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
}

/// The process has begun to stop.
pub fn stopping() {
    #[cfg(target_os = "linux")]
    drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
}
