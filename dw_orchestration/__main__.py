"""`python -m dw_orchestration`: the same as `dw`."""

from dw_orchestration.cli import main

if __name__ == "__main__":
    main()
