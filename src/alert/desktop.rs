//! Shows a message on the user's desktop: `org.freedesktop.Notifications` on the session bus.
//!
//! What must always hold: it goes to a socket of this machine and to nowhere else; it ends in a bounded time; a machine
//! without a session bus, or with nobody on it who shows messages, is told of by an error and nothing else.

pub use system::Bus;

#[cfg(target_os = "linux")]
mod system {
    use std::collections::HashMap;
    use std::time::Duration;

    use tokio::time::timeout;
    use zbus::address::transport::{Transport, Unix, UnixSocket};
    use zbus::{Address, Variant, connection};

    use crate::alert::words::Message;
    use crate::config::Environment;

    /// A bus that is there takes a millisecond.
    const CONNECT_MAX: Duration = Duration::from_secs(5);
    /// Whoever shows messages may have to be started by the bus first; other programs wait this long too.
    const SHOW_MAX: Duration = Duration::from_secs(30);
    const NAME: &str = "org.freedesktop.Notifications";
    const PATH: &str = "/org/freedesktop/Notifications";
    /// It stays until it is seen: whoever is away from the screen is told only once in a week.
    const STAYS: i32 = 0;

    /// The user's session bus, by its address.
    #[derive(Debug, Clone)]
    pub struct Bus(Address);

    impl Bus {
        /// The one this process was started beside, whether or not anybody listens there yet. An address that is no
        /// socket of this machine is not heeded.
        pub fn of(env: &Environment) -> Option<Self> {
            let Some(given) = env.get("DBUS_SESSION_BUS_ADDRESS") else {
                let path = env.runtime_dir()?.join("bus");
                return Some(Self(Address::from(Transport::Unix(Unix::new(UnixSocket::File(path))))));
            };
            let local = given.to_str()?.split(';').find(|address| address.starts_with("unix:"))?;
            local.parse().ok().map(Self)
        }

        /// Shows it.
        ///
        /// # Errors
        /// For the log: it was not shown. Where it is not known whether it was, it counts as shown: better never than twice.
        pub async fn show(&self, message: &Message) -> Result<(), String> {
            let building = timeout(CONNECT_MAX, connection::Builder::address(self.0.clone()).build()).await;
            let connection = match building {
                Ok(built) => built.map_err(|error| error.to_string())?,
                Err(_) => return Err(format!("the bus did not answer within {} s", CONNECT_MAX.as_secs())),
            };
            let nothing_to_press: [&str; 0] = [];
            let hints = HashMap::from([("category", Variant::from("network.error"))]);
            let (title, body) = (message.title, message.body.as_str());
            let call = ("WaveFlow", 0_u32, "dialog-warning", title, body, &nothing_to_press[..], hints, STAYS);
            match timeout(SHOW_MAX, connection.call_method(Some(NAME), PATH, Some(NAME), "Notify", &call)).await {
                Ok(shown) => shown.map(drop).map_err(|error| error.to_string()),
                Err(_) => Ok(()),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::path::Path;

        use super::*;
        use crate::config::Platform;

        fn address(variables: &[(&str, &str)]) -> Option<String> {
            let env = Environment::new(Platform::Linux, Path::new("/"), variables.iter().copied());
            Bus::of(&env).map(|bus| bus.0.to_string())
        }

        #[test]
        fn the_bus_is_the_sessions_and_on_this_machine() {
            let runtime = ("XDG_RUNTIME_DIR", "/run/user/1000");
            let variable = |text| ("DBUS_SESSION_BUS_ADDRESS", text);
            assert_eq!(address(&[]), None);
            assert_eq!(address(&[runtime]).as_deref(), Some("unix:path=/run/user/1000/bus"));
            assert_eq!(address(&[runtime, variable("unix:path=/a")]).as_deref(), Some("unix:path=/a"));
            assert_eq!(address(&[variable("tcp:host=a,port=1;unix:abstract=/b")]).as_deref(), Some("unix:abstract=/b"));
            for elsewhere in ["tcp:host=music.example,port=1", "unixexec:path=/bin/sh", "autolaunch:", "unix:", "x"] {
                assert_eq!(address(&[runtime, variable(elsewhere)]), None, "{elsewhere}");
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use crate::alert::words::Message;
    use crate::config::Environment;

    /// There is none.
    #[derive(Debug, Clone)]
    pub enum Bus {}

    impl Bus {
        /// There is none.
        pub fn of(_: &Environment) -> Option<Self> {
            None
        }

        /// Shows nothing, since there is nothing to show it on.
        ///
        /// # Errors
        /// None.
        #[expect(clippy::unused_async, reason = "as on Linux")]
        pub async fn show(&self, _: &Message) -> Result<(), String> {
            match *self {}
        }
    }
}
