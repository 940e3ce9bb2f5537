//! The parts of a configuration that change only at the next start. The table of keys names the same keys, and a test holds
//! both equal.

use super::Config;

impl Config {
    /// Takes over what a running server cannot change, and returns the keys whose new values wait for the next start.
    pub fn keep_until_restart(&mut self, running: &Self) -> Vec<&'static str> {
        let mut kept = Vec::new();
        keep("listen", &mut self.listen, &running.listen, &mut kept);
        keep("admin.listen", &mut self.admin, &running.admin, &mut kept);
        keep("workers", &mut self.workers, &running.workers, &mut kept);
        keep("log.level", &mut self.log_level, &running.log_level, &mut kept);
        keep("log.format", &mut self.log_format, &running.log_format, &mut kept);
        keep("tracing", &mut self.tracing, &running.tracing, &mut kept);
        keep("log.audit", &mut self.audit, &running.audit, &mut kept);
        let key = "admin.readiness_needs_backend";
        keep(key, &mut self.readiness_needs_backend, &running.readiness_needs_backend, &mut kept);
        let (new, old) = (&mut self.backend, &running.backend);
        keep("backend.breaker", &mut new.breaker, &old.breaker, &mut kept);
        keep("backend.health", &mut new.check, &old.check, &mut kept);
        let before = kept.len();
        keep("backend.url", &mut new.location, &old.location, &mut kept);
        if (new.protocol, &new.authority) != (old.protocol, &old.authority) {
            (new.protocol, new.authority) = (old.protocol, old.authority.clone());
            kept.push("backend.url");
        }
        if kept.len() > before {
            // Authorities that are trusted for one backend must not be trusted for another.
            self.backend_tls.clone_from(&running.backend_tls);
        }
        kept.dedup();
        kept
    }
}

fn keep<T: PartialEq + Clone>(key: &'static str, new: &mut T, old: &T, kept: &mut Vec<&'static str>) {
    if new != old {
        new.clone_from(old);
        kept.push(key);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::diagnostic::Source;

    fn config(more: &str) -> Config {
        let least = "tls: { certificate: a, key: b, client_ca: c }\npolicies: p\n";
        let source = Source::new("sidegate.yaml", format!("{least}{more}"));
        Config::build(&source, Path::new("/"), &[]).unwrap()
    }

    #[test]
    fn what_a_running_server_cannot_change_is_named_and_left_as_it_is() {
        let running = config("backend: { url: http://127.0.0.1:80 }\n");
        let mut same = config("backend: { url: http://127.0.0.1:80, max_in_flight: 7 }\ndrain_timeout: 3s\n");
        assert_eq!(same.keep_until_restart(&running), Vec::<&str>::new());
        assert_eq!(same.max_in_flight, 7);
        let mut other = config(
            "backend: { url: 'h2://127.0.0.1:81', tls: { ca: ca.pem } }\nlisten: 127.0.0.1:1\nworkers: 77\nadmin: { listen: 127.0.0.1:2 }\nlog: { level: debug, format: text, audit: none }\n",
        );
        let kept = other.keep_until_restart(&running);
        let all =
            ["listen", "admin.listen", "workers", "log.level", "log.format", "log.audit", "backend.url"];
        assert_eq!(kept, all);
        assert_eq!((other.listen, other.workers), (running.listen, running.workers));
        assert_eq!(other.backend.location, running.backend.location);
        assert!(other.backend_tls.is_none());
        assert_eq!(other.keep_until_restart(&running), Vec::<&str>::new());
    }
}
