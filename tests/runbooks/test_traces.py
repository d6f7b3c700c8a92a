from __future__ import annotations

import pytest

from runbooks.traces import innermost

PYTHON = """\
Traceback (most recent call last):
  File "/app/db.py", line 3, in connect
    raise OSError("socket closed")
OSError: socket closed

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/main.py", line 9, in <module>
    main()
RuntimeError: cannot start
"""
JAVA = """\
Exception in thread "main" org.springframework.beans.BeanCreationException: Error creating bean
	at org.springframework.Factory.create(Factory.java:12)
Caused by: java.lang.IllegalStateException: no pool
	at com.shop.Pool.open(Pool.java:7)
Caused by: java.sql.SQLException: bad url
	at com.shop.Driver.connect(Driver.java:99)
	... 12 more
"""
GO = """\
panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x4a]

goroutine 1 [running]:
main.main()
"""
NODE = """\
/app/server.js:10
TypeError: Cannot read properties of undefined (reading 'port')
    at Object.<anonymous> (/app/server.js:10:14)
    at Module._compile (node:internal/modules/cjs/loader:1105:14)
"""
DOTNET = """\
Unhandled exception. System.InvalidOperationException: Cannot start.
 ---> System.ArgumentNullException: Value cannot be null. (Parameter 'url')
   at Shop.Client..ctor(String url) in /src/Client.cs:line 8
   --- End of inner exception stack trace ---
"""
RUST = """\
thread 'main' panicked at src/main.rs:4:5:
called `Option::unwrap()` on a `None` value
note: run with `RUST_BACKTRACE=1`
"""


@pytest.mark.parametrize(
    ("text", "runtime", "said"),
    [
        (PYTHON, "python", "OSError: socket closed"),
        (JAVA, "java", "java.sql.SQLException: bad url"),
        (GO, "go", "panic: runtime error: invalid memory address or nil pointer dereference"),
        (NODE, "node", "TypeError: Cannot read properties of undefined (reading 'port')"),
        (DOTNET, "dotnet", "System.ArgumentNullException: Value cannot be null. (Parameter 'url')"),
        (RUST, "rust", "panic: called `Option::unwrap()` on a `None` value"),
    ],
)
def test_the_innermost_exception(text: str, runtime: str, said: str) -> None:
    trace = innermost(["starting", *text.splitlines()])
    assert trace is not None
    assert (trace.runtime, trace.text) == (runtime, said)


def test_a_second_trace_begins_a_chain_of_its_own() -> None:
    later = 'Traceback (most recent call last):\n  File "/app/x.py", line 1, in <module>\n    f()\nValueError: later'
    trace = innermost([*PYTHON.splitlines(), *later.splitlines()])
    assert trace is not None
    assert trace.text == "ValueError: later"


@pytest.mark.parametrize("text", ["all is well", "Error: just a message", "panic: at the disco", "an exception was handled at 12:00"])
def test_words_alone_are_no_trace(text: str) -> None:
    assert innermost(["x", text, "y"]) is None
