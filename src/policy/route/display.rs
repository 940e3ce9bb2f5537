//! The writing of routes, in the form that `parse` reads.

use std::fmt;

use http::Method;

use super::{Methods, Path, Segment};

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(bytes) => encode(bytes, f),
            Self::Glob(glob) => {
                for (index, part) in glob.0.iter().enumerate() {
                    if index > 0 {
                        f.write_str("*")?;
                    }
                    encode(part, f)?;
                }
                Ok(())
            }
            Self::Any => f.write_str("*"),
            Self::Client(variable) => write!(f, "{{client.{}}}", variable.name()),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            write!(f, "/{segment}")?;
        }
        match (self.rest, self.segments.is_empty()) {
            (true, _) => f.write_str("/**"),
            (false, true) => f.write_str("/"),
            (false, false) => Ok(()),
        }
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::Any {
            return f.write_str("*");
        }
        let methods = self.named();
        let implied = |method: &&Method| **method != Method::HEAD || !methods.contains(&Method::GET);
        for (index, method) in methods.iter().filter(implied).enumerate() {
            let bar = if index > 0 { "|" } else { "" };
            write!(f, "{bar}{method}")?;
        }
        Ok(())
    }
}

fn encode(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in bytes {
        match byte {
            b'*' | b'{' | b'}' | b'%' | b' ' | b'?' | b'#' | 0..=0x1f | 0x7f..=0xff => {
                write!(f, "%{byte:02X}")?
            }
            byte => write!(f, "{}", char::from(*byte))?,
        }
    }
    Ok(())
}
