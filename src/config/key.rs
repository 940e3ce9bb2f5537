//! The description of a key, and the macro that makes descriptions and their reading from one table.

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The path, such as `limits.lobby.idle_timeout`.
    pub path: &'static str,
    /// The kind or unit of the value, as help prints it: `ADDRESS`, `DURATION`, `BYTES`.
    pub value: &'static str,
    /// The value where the key is not written.
    pub presence: Presence,
    /// The moment from which a changed value counts.
    pub effect: Effect,
    /// One line of explanation.
    pub help: &'static str,
}

/// The meaning of a key that is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The default counts, written as an author would write it.
    Default(&'static str),
    /// The configuration is refused.
    Required,
    /// The configuration goes without a value.
    Optional,
}

/// The moment from which a changed value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The next reload.
    AtReload,
    /// The next start.
    AtStart,
}

impl Key {
    /// The flag that overrides the key, without its dashes.
    #[must_use]
    pub fn flag(&self) -> String {
        self.path.replace(['.', '_'], "-")
    }

    /// The environment variable that overrides the key.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("SIDEGATE_{}", self.path.replace('.', "_").to_ascii_uppercase())
    }

    /// The default, as an author would write it; `None` for a key without one.
    #[must_use]
    pub const fn default(&self) -> Option<&'static str> {
        match self.presence {
            Presence::Default(text) => Some(text),
            Presence::Required | Presence::Optional => None,
        }
    }
}

/// Makes, from a table of sections and their keys: `KEYS`, which describes all keys; one type for each section, with a
/// field for each key; and `Sections`, which has all of these and reads them. A row without a reader does not compile,
/// and the compiler finds a field that nothing uses.
///
/// A row is `name: Type = reader, presence, kind of value, effect, help`. `Type` is what the reader returns for a key
/// with a default, and `Option<Located<_>>` for another key.
macro_rules! keys {
    ($(
        $slot:ident: $section:ident = $path:literal, $name:literal {
            $($key:ident: $type:ty = $read:expr, $presence:ident$(($default:literal))?, $value:literal, $effect:ident,
                $help:literal;)+
        }
    )+) => {
        /// All keys, in the order of the documentation.
        pub const KEYS: &[Key] = &[$($(Key {
            path: concat!($path, stringify!($key)),
            value: $value,
            presence: Presence::$presence$(($default))?,
            effect: Effect::$effect,
            help: $help,
        },)+)+];

        $(
            #[doc = concat!("Values of ", $name, ".")]
            pub(super) struct $section {
                $(#[doc = $help] pub(super) $key: $type,)+
            }

            impl $section {
                fn read(draft: &mut Draft<'_>) -> Option<Self> {
                    let section = draft.section($path, $name);
                    // All keys are read before any is missed, so that every mistake is reported at once.
                    $(let $key = keys!(
                        @read $presence$(($default))?, draft, &section, concat!($path, stringify!($key)), $read
                    );)+
                    Some(Self { $($key: $key?,)+ })
                }
            }
        )+

        /// Values of all sections.
        pub(super) struct Sections {
            $(pub(super) $slot: $section,)+
        }

        impl Sections {
            /// Reads all sections. Mistakes are noted in the draft, and a default stands in for a mistaken value.
            pub(super) fn read(draft: &mut Draft<'_>) -> Option<Self> {
                $(let $slot = $section::read(draft);)+
                Some(Self { $($slot: $slot?,)+ })
            }
        }
    };
    (@read Default($default:literal), $draft:ident, $section:expr, $path:expr, $read:expr) => {
        $draft.value_or($default, $section, $path, $read)
    };
    (@read Required, $draft:ident, $section:expr, $path:expr, $read:expr) => {
        Some($draft.required($section, $path, $read))
    };
    (@read Optional, $draft:ident, $section:expr, $path:expr, $read:expr) => {
        Some($draft.optional($section, $path, $read))
    };
}

pub(super) use keys;
