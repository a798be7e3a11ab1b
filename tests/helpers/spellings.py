"""Every way to name one table: `Customer` of the Stripe source with the prefix `acme`, next to other tables."""

from __future__ import annotations

# the second source has a table `Invoice`, and no `Customer`: so the short names are unique
OTHERS = {"Hubspot": ("Invoice",)}
PREFIX = "acme"
TABLE = "Customer"
ID = "<id>"
SPELLINGS = [
    "stripe_acme.Customer",
    "stripe_acme.*",
    "posthog/stripe/acme/customer",
    "posthog/stripe/*",
    "acme.Customer",
    "acme.*",
    "stripe_acme/Customer",
    "Customer",
    "customer",
    "Cust?mer",
    "STRIPE_ACME.CUSTOMER",
    ID,
]
AMBIGUOUS = "Invoice"
UNKNOWN = "stripe_acme.Custmer"
UNKNOWN_TEXT = "No table is named 'stripe_acme.Custmer'. Did you mean stripe_acme.Customer"
