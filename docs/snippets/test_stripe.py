from dw_orchestration.testing import fails


def test_report_survives_a_failed_sync(embedded_warehouse):
    embedded_warehouse.add_source("Stripe", prefix="acme", tables={"Customer": [{"id": 1, "name": "Ada"}]})
    embedded_warehouse.sync("Customer")
    embedded_warehouse.behave("Customer", fails("the key was revoked"))

    job = embedded_warehouse.sync("Customer")

    assert "Failed" == job.status
    assert [{"id": 1, "name": "Ada"}] == embedded_warehouse.rows("Customer")
