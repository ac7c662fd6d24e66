use roclip::recipe::Recipe;
use std::path::Path;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let recipe = Recipe::read(Path::new(&a[1])).unwrap_or_else(|e| { eprintln!("{e}"); std::process::exit(1) });
    let r = roclip::train::train(&recipe, Path::new(&a[2]), a.get(3).is_some(), &mut |l| eprintln!("{l}"));
    match r { Ok(s) => println!("{}", serde_json::to_string(&s).unwrap_or_default()), Err(e) => { eprintln!("error: {e}"); std::process::exit(1) } }
}
