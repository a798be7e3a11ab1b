from dw_orchestration.testing import EmbeddedWarehouse, fails


def test_rows_survive_a_failed_sync(embedded_warehouse: EmbeddedWarehouse) -> None:
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Customer": [{"id": 1, "name": "Ada"}]})
    embedded_warehouse.sync("Customer")
    embedded_warehouse.behave("Customer", fails("the key was revoked"))

    job = embedded_warehouse.sync("Customer")

    assert "Failed" == job.status
    assert [{"id": 1, "name": "Ada"}] == embedded_warehouse.rows("Customer")
