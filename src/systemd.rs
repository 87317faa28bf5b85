//! Readiness and inherited sockets: sd_notify(3), sd_listen_fds(3).
