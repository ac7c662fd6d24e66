//! The methods of a look, and which of them orders the pairs.

use crate::attack::distinct;
use crate::detect::Method;
use crate::error::{Error, Result};

/// What all methods together say, beside each of them.
pub const COMBINED: &str = "combined";

/// Methods that score pairs, and what orders the pairs by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Methods {
    list: Vec<Method>,
    /// One of several; none for their mean rank, which a single method is itself.
    order: Option<Method>,
}

impl Methods {
    /// Orders several methods by where nobody says what else to order by: of the studies of this project it found more than the mean rank of
    /// all, in which methods that see nothing of an attack outvote those that do.
    pub const DEFAULT_ORDER: Method = Method::Plausibility;

    /// Those of `list`, ordered by the method of this name or by [`COMBINED`], their mean rank. Where no name is given, by
    /// [`Methods::DEFAULT_ORDER`] if it is among several, and else by the mean rank.
    ///
    /// # Errors
    /// An order by what is not in the list, or by the mean rank of one method.
    pub fn new(list: Vec<Method>, order_by: Option<&str>) -> Result<Methods> {
        let list = distinct(&list);
        let order = match order_by {
            None => Some(Methods::DEFAULT_ORDER).filter(|method| list.contains(method)),
            Some(COMBINED) if list.len() == 1 => {
                return Err(Error::setting(
                    format!(
                        "--order-by {COMBINED} with the single method {}, which has no mean rank beside it",
                        names(&list).join(", ")
                    ),
                    "leave --order-by out, or name more --methods",
                ));
            }
            Some(COMBINED) => None,
            Some(name) => match Method::named(name).filter(|method| list.contains(method)) {
                None => {
                    return Err(Error::setting(
                        format!("--order-by {name} is none of the methods that are computed"),
                        format!("add it to --methods, or name one of these: {}", names(&list).join(", ")),
                    ));
                }
                known => known,
            },
        };
        let order = order.filter(|_| list.len() > 1);
        Ok(Methods { list, order })
    }

    pub fn list(&self) -> &[Method] {
        &self.list
    }

    /// The one of several methods that orders the pairs; none for their mean rank.
    pub fn order(&self) -> Option<Method> {
        self.order
    }

    /// The place in the list of what orders the pairs; none for the mean rank of all.
    pub fn place(&self) -> Option<usize> {
        self.list.iter().position(|method| Some(*method) == self.order)
    }
}

fn names(list: &[Method]) -> Vec<&'static str> {
    list.iter().map(|method| method.name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plausibility_orders_several_methods_where_nothing_else_is_asked() {
        let all = || Method::ALL.map(|known| known.method).to_vec();
        let order = |list: Vec<Method>, by: Option<&str>| Methods::new(list, by).unwrap().order();
        assert_eq!(order(all(), None), Some(Method::Plausibility));
        assert_eq!(order(all(), Some(COMBINED)), None);
        assert_eq!(order(all(), Some("lid")), Some(Method::Lid));
        assert_eq!(order(vec![Method::Lid, Method::ClipScore], None), None);
        // A single method is its own mean, however it is asked for.
        let one = || vec![Method::Plausibility, Method::Plausibility];
        assert_eq!(Methods::new(one(), None).unwrap().list(), [Method::Plausibility]);
        assert_eq!((order(one(), None), order(one(), Some("plausibility"))), (None, None));
        assert_eq!(Methods::new(all(), None).unwrap().place(), all().iter().position(|m| *m == Method::Plausibility));
        let said = Methods::new(vec![Method::Lid], Some("dao")).unwrap_err().to_string();
        let combined = Methods::new(one(), Some(COMBINED)).unwrap_err().to_string();
        assert!(combined.contains("single method plausibility") && combined.contains("--methods"), "{combined}");
        assert!(said.contains("--order-by dao") && said.contains("these: lid"), "{said}");
    }
}
