"""What the shop sells and to whom: the Night Ferry, outfitter of people who are up late."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

__all__ = ["PRODUCTS", "Product", "customer_name", "draw", "email", "page_view"]

Choice = TypeVar("Choice")


@dataclass(frozen=True, kw_only=True)
class Product:
    """One thing on the shelf."""

    sku: str
    name: str
    category: str
    price: Decimal


@dataclass(frozen=True)
class _Shelf:
    """A category: its things with their prices in cents, and the makes they come in with a factor on it."""

    category: str
    things: Mapping[str, int]
    makes: Mapping[str, float]


_SHELVES = {
    "TEA": _Shelf(
        "Tea and cocoa",
        {
            "Harbour Fog": 690,
            "First Ferry": 640,
            "Low Tide Oolong": 980,
            "Smoke over the Strait": 890,
            "Lighthouse Keeper's Breakfast": 720,
            "Hush Chamomile": 590,
            "Seven Bells Mint": 560,
            "Ember Cocoa": 840,
            "Captain's Ginger": 670,
            "White Night Jasmine": 1120,
            "Fogbound Rooibos": 610,
            "Last Train Lemon": 580,
        },
        {
            "sampler": 0.5,
            "tin": 1.0,
            "refill": 0.85,
            "caddy": 1.9,
            "gift box": 2.6,
            "half kilo": 3.4,
            "ship's crate": 9.5,
        },
    ),
    "LMP": _Shelf(
        "Lamps and lanterns",
        {
            "Pier Lantern": 5400,
            "Owl Reading Lamp": 6900,
            "Moonrise Night Light": 2900,
            "Cabin Hurricane Lamp": 4800,
            "Pocket Beacon": 1900,
            "Star Projector": 7900,
            "Bicycle Glowworm": 2400,
            "Window Candle": 1600,
            "Signal Torch": 3200,
            "Paper Comet": 2100,
            "Attic Pendant": 8800,
            "Bedside Tide Clock": 6200,
        },
        {
            "brass": 1.4,
            "copper": 1.35,
            "slate": 1.0,
            "cream": 1.0,
            "fir green": 1.05,
            "signal red": 1.05,
            "kit": 0.8,
        },
    ),
    "INK": _Shelf(
        "Paper and ink",
        {
            "Logbook": 1800,
            "Midnight Ink": 1450,
            "Insomniac's Notebook": 1600,
            "Letter Set": 2200,
            "Star Chart": 1950,
            "Ferry Timetable Diary": 2400,
            "Pencil Fleet": 1100,
            "Pocket Almanac": 1300,
            "Wax Seal": 2700,
            "Postcard Deck": 900,
            "Desk Blotter": 3100,
            "Fountain Pen": 4900,
        },
        {
            "plain": 1.0,
            "ruled": 1.0,
            "dotted": 1.0,
            "linen bound": 1.5,
            "travel size": 0.7,
            "twin pack": 1.8,
            "collector's": 2.9,
        },
    ),
    "WOL": _Shelf(
        "Wool and warmth",
        {
            "Deckhand Jumper": 9800,
            "Watch Cap": 2900,
            "Night Shift Socks": 1500,
            "Fisherman's Scarf": 3900,
            "Platform Mittens": 2700,
            "Dozing Blanket": 8900,
            "Hot Water Bottle Cosy": 2300,
            "Reading Shawl": 6400,
            "Slipper Boots": 5200,
            "Sleeper Train Eye Mask": 1400,
            "Dawn Cardigan": 10900,
            "Long Johns": 4600,
        },
        {
            "oatmeal": 1.0,
            "storm grey": 1.0,
            "rust": 1.0,
            "night blue": 1.0,
            "moss": 1.0,
            "striped": 1.1,
            "undyed merino": 1.4,
        },
    ),
    "GAL": _Shelf(
        "Galley and hearth",
        {
            "Enamel Mug": 1400,
            "Whistling Kettle": 5600,
            "Midnight Snack Board": 3400,
            "Toasting Fork": 1700,
            "Stovetop Popcorn Pot": 4300,
            "Biscuit Tin": 1900,
            "Soup Flask": 3600,
            "Teapot for One": 3800,
            "Honey Spoon": 900,
            "Egg Timer": 1200,
            "Salt Pig": 2600,
            "Camp Skillet": 5900,
        },
        {
            "white": 1.0,
            "speckled": 1.05,
            "cobalt": 1.05,
            "copper": 1.6,
            "cast iron": 1.5,
            "pair": 1.9,
            "second choice": 0.6,
        },
    ),
    "OUT": _Shelf(
        "Maps and outings",
        {
            "Island Map": 1600,
            "Folding Compass": 3300,
            "Rain Cape": 7200,
            "Dawn Chorus Field Guide": 2500,
            "Ferry Deck Chair": 8400,
            "Constellation Globe": 9900,
            "Pocket Telescope": 6800,
            "Wayfarer Satchel": 11800,
            "Tide Table": 800,
            "Pebble Finder's Pouch": 1300,
            "Harmonica": 2900,
            "Picnic Roll": 4700,
        },
        {
            "north coast": 1.0,
            "south coast": 1.0,
            "outer isles": 1.1,
            "canvas": 1.0,
            "waxed": 1.25,
            "child's": 0.75,
            "anniversary": 1.7,
        },
    ),
}

_FIRST = """
Ada Agnes Amara Anouk Astrid Bela Bruno Carmen Cleo Dario Edith Elif Emil Esme Felix Freya Greta
Hana Hugo Ida Ingrid Ivo Jonas Juno Kaya Kofi Lena Leo Lucia Magnus Mara Mateo Mina Nadia Nils Noor
Odile Olga Oskar Paul Petra Priya Rafael Rosa Ruben Saskia Selma Sven Tariq Thea Tomas Uma Vera
Viktor Wanda Yara Yusuf Zadie Zora
"""

_LAST = """
Abara Aldous Andersen Aydin Barros Beck Bellamy Bianchi Borg Castell Corbin Dahl Delgado Drost Egede
Eriksen Falk Farrow Ferrer Fontaine Garland Grieg Halloran Haas Holm Ibarra Jansen Kaya Keller Kowal
Lacroix Lindqvist Lund Marchetti Mercer Moreau Nakata Novak Nyberg Okafor Osei Palmer Pereira Quist
Rao Reyes Ricci Rossi Sato Schuster Silva Sorel Strand Tamm Teller Vance Visser Weaver Winter Zeman
"""

_FIRST_NAMES, _LAST_NAMES = _FIRST.split(), _LAST.split()

_MAIL_HOSTS = ("example.com", "example.net", "example.org")

_REFERRERS = {
    None: 46,
    "https://search.example/": 27,
    "https://letters.example/late-edition": 11,
    "https://photos.example/thenightferry": 9,
    "https://forum.example/t/best-tea-after-midnight": 7,
}

_PAGES = {"/": 18, "/category": 22, "/product": 44, "/cart": 10, "/checkout": 6}

_DEVICES = {"phone": 58, "laptop": 34, "tablet": 8}


def _stock() -> tuple[Product, ...]:
    return tuple(
        Product(
            sku=f"{code}-{number:02d}{letter}",
            name=f"{thing}, {make}",
            category=shelf.category,
            # prices end in 5 or 0 cents, as a shop's do
            price=Decimal(round(cents * factor / 5) * 5).scaleb(-2),
        )
        for code, shelf in _SHELVES.items()
        for number, (thing, cents) in enumerate(shelf.things.items(), start=1)
        for letter, (make, factor) in zip("ABCDEFG", shelf.makes.items(), strict=True)
    )


PRODUCTS = _stock()


def draw(weights: Mapping[Choice, int], *, rng: random.Random) -> Choice:
    """One of the keys, as often as its weight says."""
    return rng.choices(tuple(weights), weights=tuple(weights.values()))[0]


def customer_name(*, rng: random.Random) -> str:
    """A first and a last name."""
    return f"{rng.choice(_FIRST_NAMES)} {rng.choice(_LAST_NAMES)}"


def email(name: str, *, number: int, rng: random.Random) -> str:
    """An address at a host that can't exist; ``number`` makes it the customer's alone."""
    return f"{name.lower().replace(' ', '.')}.{number}@{rng.choice(_MAIL_HOSTS)}"


def page_view(*, rng: random.Random) -> tuple[str, str | None, dict[str, object]]:
    """The url, the referrer and the properties of one page view."""
    page = draw(_PAGES, rng=rng)
    product = rng.choice(PRODUCTS)
    if page == "/product":
        page += f"/{product.sku.lower()}"
    elif page == "/category":
        page += f"/{product.category.lower().replace(' ', '-')}"
    properties = {"device": draw(_DEVICES, rng=rng), "load_ms": round(rng.lognormvariate(6.2, 0.5))}
    return f"https://nightferry.example{page}", draw(_REFERRERS, rng=rng), properties
