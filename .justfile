# What is done often. `just` alone lists it.
default:
    @just --list

# The demo: everything at once on this machine
demo:
    cargo run --profile demo -- demo

# What README calls "the tests"
test:
    cargo test

# What must pass before a commit
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo test

# What CI does, from nothing
ci:
    bash .ci/run

# The image, built and tried as an operator would (as root)
image:
    bash .ci/image
