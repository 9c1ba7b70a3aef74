//! What a service manager is told of our life (sd_notify(3)); nothing where none listens.

/// Requests are served from now on.
pub fn ready() {
    tell(State::Ready);
}

/// The end has begun.
pub fn stopping() {
    tell(State::Stopping);
}

#[derive(Clone, Copy)]
enum State {
    Ready,
    Stopping,
}

#[cfg(target_os = "linux")]
fn tell(state: State) {
    let state = match state {
        State::Ready => sd_notify::NotifyState::Ready,
        State::Stopping => sd_notify::NotifyState::Stopping,
    };
    // A manager that does not listen misses nothing we need.
    drop(sd_notify::notify(&[state]));
}

#[cfg(not(target_os = "linux"))]
fn tell(_: State) {}
